"""The rivals of an engine: networks without early exit, found by name or read from ONNX files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, nan
from pathlib import Path

import torch

from ranet.errors import UserError, first_line
from ranet.inference.graphs.of_file import FileGraph
from ranet.models.adapted.named import create_classifier
from ranet.models.adapted.single_exit import SingleExit


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
    """Return the rivals of these descriptions.

    Args:
        given: each the name of a classification model of torchvision or timm, or the path of a file that ends in
            ".onnx". A colon and the top-1 accuracy in percent may follow.
        num_classes: number of classes of the networks that are made.
        shape: (C, H, W) of the images; an ONNX file may name another.

    Raises:
        UserError: for an unknown name, an invalid accuracy, a network that cannot read images of this shape, or a file
            that is not the ONNX graph of a classifier.

    Example:
        >>> (rival,) = find_rivals(["resnet18:69.76"], num_classes=10, shape=(3, 32, 32))
        >>> rival.name, rival.accuracy, rival.network.num_exits
        ('resnet18', 0.6976, 1)
    """
    return [_find(*_split(text), num_classes, shape) for text in given]


def _split(text: str) -> tuple[str, float]:
    """Return the name and the accuracy in a description."""
    name, colon, percent = text.rpartition(":")
    if not colon:
        return text, nan
    try:
        accuracy = float(percent)
    except ValueError:
        accuracy = nan
    if not (isfinite(accuracy) and 0 <= accuracy <= 100):
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
