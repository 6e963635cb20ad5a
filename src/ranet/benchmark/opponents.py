"""The opponents of an early-exit engine, ready to run in the same runtime."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ranet.benchmark.answers import Images
from ranet.benchmark.rivals import Rival
from ranet.errors import UserError, first_line
from ranet.inference.choosing.open_backend import graph_backend, open_network
from ranet.inference.graphs.of_file import FileGraph
from ranet.inference.runtimes.backend import Backend, Precision
from ranet.inference.stages.fused_stages import FusedStage
from ranet.models.adapted.single_exit import SingleExit
from ranet.models.staged import StagedNetwork

#: Takes images (B, C, H, W), of one batch size, and returns what a network answers, on the host.
Run = Callable[[Images], Any]


class Runtime(NamedTuple):
    """Where and how a network runs.

    Attributes:
        backend: "torch", "onnxruntime" or "openvino".
        precision: "float32" or "bfloat16"; ONNX Runtime computes only in float32.
        threads: processor threads; None: one for each core that this process may use, and in PyTorch as many as before.
        device: for PyTorch.
    """

    backend: str
    precision: Precision = "float32"
    threads: int | None = None
    device: str = "cpu"

    def open(self, network: StagedNetwork | FileGraph, sizes: Sequence[int]) -> Backend:
        """Return the backend that runs a network, for batches of these sizes.

        Raises:
            UserError: if it cannot run the network.
        """
        name, precision, threads, device = self
        compiled = sizes if name == "openvino" else None
        if isinstance(network, FileGraph):
            return graph_backend(name, network, precision, threads, compiled)
        return open_network(network, name, device, precision, threads, compiled, None).backend


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
    """Return the backends of rivals by their names; an ONNX file has none in PyTorch.

    Raises:
        UserError: if one of them cannot run there.
    """
    found = {}
    for rival in rivals:
        if runtime.backend == "torch" and isinstance(rival.network, FileGraph):
            continue
        try:
            found[rival.name] = runtime.open(rival.network, sizes)
            for size in sizes:
                run_whole(found[rival.name], size)
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
    backend.prepare(stage, buffer)

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
