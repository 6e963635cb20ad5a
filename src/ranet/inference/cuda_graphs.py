"""CUDA graphs of fused stages: a GPU's work for one batch size, recorded once and replayed with a single call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ranet.inference.fused_stages import FusedStage

State = tuple[Tensor, ...]
WARM_UPS = 3


@dataclass(frozen=True)
class _Recording:
    graph: torch.cuda.CUDAGraph
    inputs: State
    logits: Tensor
    after: State


class GraphedStages:
    """Recordings of fused stages, one for each batch size, made when first needed.

    A recording reads its own input tensors and writes its own outputs, the same at every replay.

    Args:
        compute: from a fused stage and the state before it to the logits and the state after it.
    """

    def __init__(self, compute: Callable[[FusedStage, State], tuple[Tensor, State]]) -> None:
        self._compute = compute
        self._recordings: dict[tuple[FusedStage, int], _Recording] = {}

    def record(self, stage: FusedStage, inputs: State) -> _Recording:
        """Record a stage on these input tensors, which the recording keeps; once for each batch size."""
        recorded = self._recordings.get((stage, len(inputs[0])))
        if recorded is not None:
            return recorded
        device = inputs[0].device
        # As PyTorch asks: libraries initialise on a stream of their own before anything is captured.
        stream = torch.cuda.Stream(device)
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                self._compute(stage, inputs)
        torch.cuda.current_stream(device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            logits, after = self._compute(stage, inputs)
        recording = _Recording(graph, inputs, logits, after)
        self._recordings[stage, len(inputs[0])] = recording
        return recording

    def replay(self, stage: FusedStage, state: State) -> tuple[Tensor, State]:
        """Run a stage on a state: copied into the recording's inputs, unless it is these."""
        recording = self._recordings.get((stage, len(state[0])))
        if recording is None:
            # On memory of its own: that of a state belongs to the stage before.
            recording = self.record(stage, tuple(torch.zeros_like(tensor) for tensor in state))
        for tensor, given in zip(recording.inputs, state, strict=True):
            if tensor.data_ptr() != given.data_ptr():
                tensor.copy_(given)
        recording.graph.replay()
        return recording.logits, recording.after
