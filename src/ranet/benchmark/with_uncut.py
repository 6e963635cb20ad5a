"""The uncut network as one more stage of a backend, so that it is timed among the stages exactly as they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ranet.benchmark.uncut import Uncut
from ranet.inference.runtimes.backend import Backend, Precision, Rows, State
from ranet.inference.runtimes.numpy_states import copy_rows
from ranet.inference.stages.fused_stages import FusedStage


class WithUncut:
    """A backend with an additional stage, `uncut_stage`, which starts from images and is a network that is not cut.

    The images come to where the runtime reads them once for each buffer, and not in each run: as the states of stages.

    Args:
        backend: that runs all other stages.
        uncut: the network, which gives the logits of its exits.
    """

    def __init__(self, backend: Backend, uncut: Uncut) -> None:
        self.name = backend.name
        self.precision: Precision = backend.precision
        self.device = backend.device
        self.facts = backend.facts
        self.fixed_sizes = backend.fixed_sizes
        #: Ends behind the last exit, so no stage of the network is like it.
        self.uncut_stage = FusedStage(0, backend.facts.num_exits)
        self._backend = backend
        self._uncut = uncut
        self._buffer: State = ()
        self._placed: Any = None

    def prepare(self, stage: FusedStage, buffer: State) -> None:
        """Prepare a stage; what is not cut has been made ready before."""
        if stage != self.uncut_stage:
            self._backend.prepare(stage, buffer)

    def run(self, stage: FusedStage, state: State, rows: int) -> tuple[npt.NDArray[np.float32], State]:
        """Run a stage; see `Backend.run`. After the network there is no state."""
        if stage != self.uncut_stage:
            return self._backend.run(stage, state, rows)
        if state is not self._buffer:
            self._buffer, self._placed = state, self._uncut.place(state[0])
        return self._uncut.compute(self._placed)[-1], ()

    def buffer(self, stage: FusedStage, size: int) -> State:
        """New arrays of any content; see `Backend.buffer`."""
        if stage != self.uncut_stage:
            return self._backend.buffer(stage, size)
        return (np.zeros((size, *self.facts.input_shape), dtype=np.float32),)

    def copy_rows(self, source: State, rows: Rows | None, target: State, at: int) -> None:
        """Copy rows of a state, or images, into a buffer; see `Backend.copy_rows`."""
        copy = copy_rows if isinstance(target[0], np.ndarray) else self._backend.copy_rows
        copy(source, rows, target, at)
