"""CUDA graphs of fused stages: a GPU's work for one batch size, recorded once and replayed with a single call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ranet.inference.stages.fused_stages import FusedStage

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

    A recording reads its own input tensors and writes its own outputs, the same at every replay, and has its own
    scratch memory: in a common one the replay of one stage could write over the outputs of another.

    Args:
        compute: from a fused stage and the state before it to the logits and the state after it.
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
        """Run a stage on a state, which is copied into the recording's inputs: microseconds on a GPU."""
        recording = self.record(stage, state)
        for tensor, given in zip(recording.inputs, state, strict=True):
            tensor.copy_(given)
        recording.graph.replay()
        return recording.logits, recording.after
