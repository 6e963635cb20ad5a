"""The opponents of an engine: the same network without early exit, and rivals, by name or from ONNX files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ranet.benchmark.answers import Images
from ranet.errors import UserError, first_line
from ranet.inference.choosing.open_backend import graph_backend, open_network
from ranet.inference.graphs.of_file import FileGraph
from ranet.inference.runtimes.backend import Backend, Runtime
from ranet.inference.stages.fused_stages import FusedStage
from ranet.models.adapted.named import create_classifier
from ranet.models.adapted.single_exit import SingleExit
from ranet.models.staged import StagedNetwork

#: Takes images (B, C, H, W), of one batch size, and returns what a network answers, on the host.
Run = Callable[[Images], Any]


@dataclass(frozen=True, eq=False)
class Rival:
    """A network without early exit.

    Attributes:
        name: as the user gave it.
        network: a network with random weights, which take as long as any others; or an ONNX file.
        accuracy: top-1 as the user gave it, as a fraction; NaN if it is not known.
    """

    name: str
    network: SingleExit | FileGraph
    accuracy: float = nan


def find_rivals(given: Sequence[str], num_classes: int, shape: tuple[int, int, int]) -> list[Rival]:
    """Return the rivals of these descriptions, for images (C, H, W), unless an ONNX file names another shape.

    A description is the name of a classification model of torchvision or timm, or the path of a file that ends in
    ".onnx". A colon and the top-1 accuracy in percent may follow.

    Raises:
        UserError: for an unknown name, an invalid accuracy, a network that cannot read images of this shape, or a file
            that is not the ONNX graph of a classifier.

    Example:
        >>> (rival,) = find_rivals(["resnet18:69.76"], num_classes=10, shape=(3, 32, 32))
        >>> rival.name, rival.accuracy, rival.network.num_exits
        ('resnet18', 0.6976, 1)
    """
    return [_find(*_name_and_accuracy(text), num_classes, shape) for text in given]


def _name_and_accuracy(text: str) -> tuple[str, float]:
    name, colon, percent = text.rpartition(":")
    if not colon:
        return text, nan
    try:
        accuracy = float(percent)
    except ValueError:
        accuracy = nan
    if not 0 <= accuracy <= 100:  # nor NaN
        raise UserError(
            f"rivals={text} must be a name, or a name and its top-1 accuracy in percent, such as resnet18:69.76."
        )
    return name, round(accuracy / 100, 12)


def _find(name: str, accuracy: float, num_classes: int, shape: tuple[int, int, int]) -> Rival:
    if name.endswith(".onnx"):
        try:
            return Rival(name, FileGraph(Path(name), shape), accuracy)
        except UserError as error:
            raise UserError(f"The rival {error}") from error
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # so that the cache holds one export of it
        try:
            network = create_classifier(name, num_classes)
        except UserError as error:
            raise UserError(str(error).replace("Unknown network", "Unknown rival")) from error
    try:
        with torch.inference_mode():
            network(torch.zeros(2, *shape))
    except (RuntimeError, ValueError, AssertionError, IndexError) as error:
        raise UserError(
            f"The rival {name} cannot read images of shape {shape}; leave it out ({first_line(error)})."
        ) from error
    return Rival(name, SingleExit(network, num_classes, shape[1:], shape[0]), accuracy)


def check_rivals(rivals: Sequence[Rival], backends: Sequence[str], batch_sizes: Sequence[int]) -> None:
    """Refuse rivals that cannot be measured in these backends and batch sizes.

    Raises:
        UserError: for an ONNX file where only PyTorch runs, or one that is made for another batch size.
    """
    for rival in rivals:
        if not isinstance(rival.network, FileGraph):
            continue
        if set(backends) <= {"torch"}:
            raise UserError(f"The rival {rival.name} runs in onnxruntime and openvino; measure in one of these, too.")
        fixed = rival.network.batch_size
        if fixed is not None and set(batch_sizes) != {fixed}:
            raise UserError(
                f"The rival {rival.name} is made for batches of {fixed}; measure with batch_sizes=[{fixed}] alone, or "
                "export it with any batch size."
            )


class _AllExits(nn.Module):
    """A network with early exits as one that is not cut: images to the logits of all exits, side by side."""

    def __init__(self, network: StagedNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat([answer for _, _, answer in self.network.walk(images)], dim=1)


def all_exits(network: StagedNetwork) -> SingleExit:
    """Return a network as one of a single exit, which answers with the logits of all its exits, (B, K * C)."""
    channels, *size = network.image_shape
    return SingleExit(_AllExits(network), network.num_exits * network.num_classes, (size[0], size[1]), channels)


def open_rivals(rivals: Sequence[Rival], runtime: Runtime, sizes: Sequence[int]) -> dict[str, Backend]:
    """Return the backends of rivals by their names, run once for each batch size; an ONNX file has none in PyTorch.

    Raises:
        UserError: if one of them cannot run there.
    """
    found: dict[str, Backend] = {}
    for rival in rivals:
        try:
            if not isinstance(rival.network, FileGraph):
                found[rival.name] = open_network(rival.network, runtime).backend
            elif runtime.backend != "torch":
                found[rival.name] = graph_backend(runtime.backend, rival.network, runtime)
            else:
                continue
            for size in sizes:
                images = np.zeros((size, *found[rival.name].facts.input_shape), dtype=np.float32)
                run_whole(found[rival.name], size)(images)
        except UserError as error:
            raise UserError(f"The rival {rival.name} cannot be measured: {error}") from error
        except Exception as error:  # runtimes raise errors of their own kinds, and of none in particular
            raise UserError(
                f"The rival {rival.name} cannot be measured: {runtime.backend} cannot run it ({first_line(error)})."
            ) from error
    return found


def run_whole(backend: Backend, size: int) -> Run:
    """Return a function from a batch to its classes that runs all stages of a backend as one."""
    stage = FusedStage(0, backend.facts.num_exits - 1)
    buffer = backend.buffer(stage, size)

    def run(images: Images) -> Any:
        backend.copy_rows((images,), None, buffer, 0)
        return backend.run(stage, buffer, len(images))[0].argmax(axis=-1)

    return run


def run_as_trained(network: StagedNetwork) -> Run:
    """Return a function from a batch to the logits of the last exit, in plain PyTorch and on the network's device."""
    network.eval()
    device = next(network.parameters()).device

    @torch.inference_mode()
    def run(images: Images) -> Any:
        return network.forward_to(torch.from_numpy(images).to(device), network.num_exits - 1).cpu().numpy()

    return run
