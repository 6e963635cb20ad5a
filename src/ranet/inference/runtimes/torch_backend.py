"""The backend that is always there: PyTorch, on the CPU or a GPU."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ranet.errors import UserError, first_line
from ranet.inference.runtimes.backend import NetworkFacts, Precision, Rows, State
from ranet.inference.stages.fused_stages import FusedStage
from ranet.inference.stages.prepared import prepared
from ranet.models.fingerprint import network_fingerprint
from ranet.models.staged import StagedNetwork

#: Batch sizes for which a GPU's work is recorded.
GRAPH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_WARM_UPS = 3


class TorchBackend:
    """Fused stages of a network in PyTorch.

    Batch normalisation is folded (`prepared`), maps lie channels last, and a GPU replays CUDA graphs, one for each
    fused stage and batch size, so that small batches do not wait for the launching of operators.

    The network is copied to the device, by default its own; a UserError says if that cannot be done.
    """

    name = "torch"

    def __init__(
        self, network: StagedNetwork, device: torch.device | str | None = None, precision: Precision = "float32"
    ) -> None:
        parameter = next(network.parameters())
        place = torch.device(parameter.device if device is None else device)
        self.facts = network_facts(network)
        self.precision = precision
        self._dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
        try:
            ready = prepared(network).to(place, self._dtype).to(memory_format=torch.channels_last)
        except (RuntimeError, AssertionError) as error:  # the latter where PyTorch was built without the device
            raise UserError(
                f"The network cannot be put on the device {str(place)!r}; choose another ({first_line(error)})."
            ) from error
        self._network = ready
        self._device = next(ready.parameters()).device
        self.device = str(self._device)
        self._graphs = _GraphedStages(self._compute) if self._device.type == "cuda" else None
        self.fixed_sizes: tuple[int, ...] | None = GRAPH_SIZES if self._graphs else None

    @torch.inference_mode()
    def run(self, stage: FusedStage, state: State, rows: int) -> tuple[npt.NDArray[np.float32], State]:
        """Run a stage; see `Backend.run`. The logits come to the host here, which is the one wait of an exit."""
        logits, after = self._graphs.replay(stage, state) if self._graphs else self._compute(stage, state)
        return logits[:rows].float().cpu().numpy(), after

    @torch.inference_mode()
    def buffer(self, stage: FusedStage, size: int) -> State:
        """Return new tensors, channels last as the maps that come out of convolutions whose weights lie so."""
        return tuple(
            torch.empty(
                (size, *shape),
                dtype=self._dtype,
                device=self._device,
                memory_format=torch.channels_last if len(shape) == 3 else torch.contiguous_format,
            )
            for shape in self._shapes[stage.first]
        )

    @torch.inference_mode()
    def copy_rows(self, source: State, rows: Rows | None, target: State, at: int) -> None:
        """Copy rows of a state into a buffer; see `Backend.copy_rows`."""
        chosen = None if rows is None else torch.from_numpy(rows).to(self._device, non_blocking=True)
        for whole, buffer in zip(source, target, strict=True):
            given = torch.from_numpy(whole) if isinstance(whole, np.ndarray) else whole
            if chosen is None:
                buffer[at : at + len(given)].copy_(given, non_blocking=True)
            elif given.device == buffer.device and given.dtype == buffer.dtype:
                torch.index_select(given, 0, chosen, out=buffer[at : at + len(chosen)])
            else:
                buffer[at : at + len(chosen)].copy_(given[chosen.to(given.device)], non_blocking=True)

    def _compute(self, stage: FusedStage, state: State) -> tuple[Tensor, State]:
        """Return the logits at the end of a stage, and the state that the next stage starts from."""
        before = self._network.stem(state[0]) if stage.first == 0 else tuple(state)
        after, logits = self._network.run(stage.first, stage.last, before)
        if stage.last == self.facts.num_exits - 1:
            return logits, after[: min(1, len(self.facts.optional_parts))]
        return logits, self._network.carry(stage.last, after, logits)

    @cached_property
    def _shapes(self) -> list[list[torch.Size]]:
        """The shapes, without the batch, of the state that each stage starts from."""
        state: State = (torch.zeros(1, *self.facts.input_shape, dtype=self._dtype, device=self._device),)
        shapes = []
        for k in range(self.facts.num_exits):
            shapes.append([tensor.shape[1:] for tensor in state])
            _, state = self._compute(FusedStage(k, k), state)
        return shapes


class _Recording(NamedTuple):
    graph: torch.cuda.CUDAGraph
    inputs: State
    logits: Tensor
    after: State


class _GraphedStages:
    """CUDA graphs of fused stages: a GPU's work for one batch size, recorded when first needed, replayed by one call.

    A recording reads its own input tensors and writes its own outputs, the same at every replay, and has its own
    scratch memory: in a common one the replay of one stage could write over the outputs of another.
    """

    def __init__(self, compute: Callable[[FusedStage, State], tuple[Tensor, State]]) -> None:
        self._compute = compute
        self._recordings: dict[tuple[FusedStage, int], _Recording] = {}

    def record(self, stage: FusedStage, like: State) -> _Recording:
        """Record a stage for the batch size of a state, once.

        It reads memory of its own: were it a caller's, a replay for another caller would write over what waits there.
        """
        recorded = self._recordings.get((stage, len(like[0])))
        if recorded is not None:
            return recorded
        inputs = tuple(torch.zeros_like(tensor) for tensor in like)
        device = inputs[0].device
        # As PyTorch asks: libraries initialise on a stream of their own before anything is captured.
        stream = torch.cuda.Stream(device)
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UPS):
                self._compute(stage, inputs)
        torch.cuda.current_stream(device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            logits, after = self._compute(stage, inputs)
        recording = _Recording(graph, inputs, logits, after)
        self._recordings[stage, len(inputs[0])] = recording
        return recording

    def replay(self, stage: FusedStage, state: State) -> tuple[Tensor, State]:
        """Run a stage on a state, which is copied into the recording's inputs: microseconds on a GPU."""
        recording = self.record(stage, state)
        for tensor, given in zip(recording.inputs, state, strict=True):
            tensor.copy_(given)
        recording.graph.replay()
        return recording.logits, recording.after


def network_facts(network: StagedNetwork) -> NetworkFacts:
    """Return what the engine needs to know of a network."""
    return NetworkFacts(
        num_exits=network.num_exits,
        num_classes=network.num_classes,
        image_size=network.image_size,
        heads_can_be_skipped=network.heads_can_be_skipped,
        cuts=tuple(range(network.num_exits)),
        fingerprint=network_fingerprint(network),
        in_channels=network.image_shape[0],
        optional_parts=network.optional_parts,
    )
