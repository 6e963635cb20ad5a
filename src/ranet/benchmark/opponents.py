"""What an early-exit engine is measured against, ready to run in the same runtime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ranet.benchmark.rivals import Rival
from ranet.benchmark.uncut import Images, Runtime, Uncut, onnx_graph, uncut
from ranet.errors import UserError
from ranet.inference.stages.prepared import prepared
from ranet.models.staged import StagedNetwork
from ranet.support.files import default_cache

TRAINED, ALL_EXITS = "as trained", "all exits"


class Opponent(NamedTuple):
    """How it runs, and on images of which shape (C, H, W)."""

    run: Uncut
    shape: tuple[int, int, int]


class Opponents:
    """The network as trained, its uncut graph with the logits of all exits, and rivals.

    Args:
        network: as trained.
        rivals: static networks.
    """

    def __init__(self, network: StagedNetwork, rivals: Sequence[Rival] = ()) -> None:
        self._network = network.eval()
        self._rivals = {rival.name: rival for rival in rivals}
        # An export takes seconds, and serves every runtime and batch size.
        self._graphs: dict[str, bytes | Path] = {}

    def ready(self, runtime: Runtime, batch_size: int) -> dict[str, Opponent]:
        """Those that this runtime can run, by name: `TRAINED`, `ALL_EXITS`, and the names of rivals.

        The network as trained runs in PyTorch and float32, whatever the runtime. An ONNX file has no turn in PyTorch.

        Raises:
            UserError: if one of them cannot run on batches of this size.
        """
        shape = self._network.image_shape
        all_exits = uncut(self._model(ALL_EXITS, runtime), runtime, (batch_size, *shape))
        found = {TRAINED: Opponent(Uncut(self._placed, self._as_trained), shape), ALL_EXITS: Opponent(all_exits, shape)}
        for name, rival in self._rivals.items():
            if runtime.backend == "torch" and isinstance(rival.model, Path):
                continue
            try:
                run = uncut(self._model(name, runtime), runtime, (batch_size, *rival.shape))
            except UserError as error:
                raise UserError(f"The rival {name} cannot be measured: {error}") from error
            found[name] = Opponent(run, rival.shape)
        return found

    def _placed(self, images: Images) -> Tensor:
        return torch.from_numpy(images).to(next(self._network.parameters()).device)

    @torch.inference_mode()
    def _as_trained(self, images: Tensor) -> Any:
        """Plain PyTorch in evaluation mode, to the last exit."""
        return self._network.forward_to(images, self._network.num_exits - 1).cpu().numpy()

    def _model(self, name: str, runtime: Runtime) -> nn.Module | bytes | Path:
        """What of this name the runtime reads."""
        if runtime.backend == "torch":
            module = prepared(self._network) if name == ALL_EXITS else self._rivals[name].model
            assert isinstance(module, nn.Module)
            return module
        if name not in self._graphs:
            self._graphs[name] = self._graph(name)
        return self._graphs[name]

    def _graph(self, name: str) -> bytes | Path:
        if name == ALL_EXITS:
            from ranet.inference.graphs.of_network import NetworkGraphs

            return NetworkGraphs(self._network, default_cache() / "graphs").all_exits_graph()
        rival = self._rivals[name]
        return rival.model if isinstance(rival.model, Path) else onnx_graph(rival.model, rival.shape)
