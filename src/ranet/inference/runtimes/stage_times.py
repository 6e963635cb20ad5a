"""How long fused stages take on this machine: the one measurement, from which all who need such times read theirs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from time import perf_counter
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ranet.calibration.scores.in_numpy import exit_scores
from ranet.cost.timings import Timings
from ranet.inference.runtimes.backend import Backend, State, sized
from ranet.inference.stages.fused_stages import FusedStage

#: Batch sizes that are measured where a backend takes any.
SIZES = (1, 2, 4, 8, 16, 32, 64)
#: Each chain has this many turns, and at least one run in each.
ROUNDS = 5
#: Seconds for each stage of each chain and each batch size, where nobody asks for more.
QUICK = 0.005
Chain = Sequence[FusedStage]
Floats = npt.NDArray[np.float64]


class StepTimings(NamedTuple):
    """How long a fused stage takes for a batch of one size as a step of the engine.

    Attributes:
        copy: of the state before the stage into the buffer that it starts from; nearly 0 where it is handed on as it
            is, as the engine does with the state of a single image.
        run: of the stage, state in, logits and state out.
        step: of both and the scores at the exit, by which images leave.
    """

    copy: Timings
    run: Timings
    step: Timings


class _Curves(NamedTuple):
    """Milliseconds of a stage at each of the sizes: medians, and the 95th percentile of steps."""

    copy: Floats
    run: Floats
    step: Floats
    slow: Floats


@dataclass(frozen=True, eq=False)
class StageTimes:
    """How long fused stages take for a whole batch, by batch size, and what the engine decides by that.

    Attributes:
        sizes: the batch sizes that were measured, ascending.
        timings: for each stage its timings at each of these sizes.
    """

    sizes: tuple[int, ...]
    timings: Mapping[FusedStage, tuple[StepTimings, ...]]

    def step(self, stage: FusedStage, rows: int) -> float:
        """Return the median milliseconds of a step on this many rows: measured, or between two measured sizes."""
        return self._at(rows, self._curves[stage].step)

    def cautious(self, stage: FusedStage, rows: int) -> float:
        """Return the 95th percentile of the milliseconds of a step on this many rows, for deadlines."""
        return self._at(rows, self._curves[stage].slow)

    def run(self, stage: FusedStage, rows: int) -> float:
        """Return the median milliseconds of a stage without what happens around it."""
        return self._at(rows, self._curves[stage].run)

    def best_size(self, stages: Chain) -> int:
        """Return the batch size at which an image takes the least time through all of these stages.

        Among sizes within 3 % of the best it is the smallest: it answers sooner and holds less memory.
        """
        per_image = sum(self._curves[stage].step for stage in stages) / np.asarray(self.sizes)
        return int(self.sizes[int(np.flatnonzero(per_image <= per_image.min() * 1.03)[0])])

    def compaction_pays(self, stage: FusedStage, before: int, after: int, backend: Backend) -> bool:
        """Return whether copying the rows that go on into a smaller batch is faster than going on with the whole batch.

        Args:
            stage: the one that comes next; behind it the question is asked again.
            before: rows of the batch as it is.
            after: rows that go on.
            backend: that runs the stage.
        """
        copied = self._at(after, self._curves[stage].copy)
        return copied + self.run(stage, sized(backend, after)) < self.run(stage, sized(backend, before))

    def including(self, other: StageTimes) -> StageTimes:
        """Return these times and others, measured at the same sizes; the others hold where both have a stage."""
        assert self.sizes == other.sizes
        return StageTimes(self.sizes, {**self.timings, **other.timings})

    def _at(self, rows: int, curve: Floats) -> float:
        return float(np.interp(rows, self.sizes, curve))

    @cached_property
    def _curves(self) -> dict[FusedStage, _Curves]:
        # A larger batch never takes less: where it seems so, something else ran.
        return {
            stage: _Curves(
                *np.maximum.accumulate(
                    [(each.copy.median, each.run.median, each.step.median, each.step.p95) for each in by_size]
                ).T
            )
            for stage, by_size in self.timings.items()
        }


def measure_stages(
    backend: Backend,
    chains: Sequence[Chain],
    sizes: Sequence[int] | None = None,
    seconds: float | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> StageTimes:
    """Time fused stages on random images as the engine runs them.

    The stages of a chain run one after another, the same chain several times. So each starts from what the one before
    it handed on, and finds in the cache what it would find there when an engine answers many images, neither more (as
    when it ran alone, over and over) nor less (as when all took turns, whose weights together are several networks').

    Args:
        backend: that runs them.
        chains: each a sequence of stages of which the first starts from images, and each later one where the one before
            it ends.
        sizes: batch sizes; by default all of the backend's, or `SIZES`.
        seconds: about how long all runs at one size take together; each chain runs at least `ROUNDS` times. By default
            `QUICK` for each stage.
        progress: called again and again with how much is measured, and of how much.

    Returns:
        The times of all stages of all chains.
    """
    chosen = tuple(sizes if sizes is not None else backend.fixed_sizes or SIZES)
    time = QUICK * sum(map(len, chains)) if seconds is None else seconds
    by_size = [_measured(backend, chains, size, time, progress) for size in chosen]
    return StageTimes(chosen, {stage: tuple(each[stage] for each in by_size) for stage in by_size[0]})


def _measured(
    backend: Backend,
    chains: Sequence[Chain],
    size: int,
    seconds: float,
    progress: Callable[[int, int], object] | None,
) -> dict[FusedStage, StepTimings]:
    images = np.random.default_rng(0).standard_normal((size, *backend.facts.input_shape), dtype=np.float32)
    stages = dict.fromkeys(stage for chain in chains for stage in chain)
    # The engine copies images, and the rows that go on behind an exit, unless it is a single one.
    buffers = {stage: backend.buffer(stage, size) for stage in stages if stage.first == 0 or size > 1}
    for stage, buffer in buffers.items():
        backend.prepare(stage, buffer)
    for chain in chains:
        _run(backend, chain, images, buffers)  # for what only the first run does
    found: dict[FusedStage, list[tuple[float, float, float]]] = {stage: [] for stage in stages}
    # In turns, so that what else runs on the machine for a while is not the fault of one chain.
    turns = ROUNDS * len(chains)
    for turn in range(turns):
        chain = chains[turn % len(chains)]
        passes: list[list[tuple[float, float, float]]] = []
        end = perf_counter() + seconds / turns
        while not passes or perf_counter() < end:
            passes.append(_run(backend, chain, images, buffers))
        # The first has found another chain's weights in the cache; where a run is long, that does not matter.
        for times in passes[1:] if len(chains) > 1 and len(passes) > 1 else passes:
            for stage, each in zip(chain, times, strict=True):
                found[stage].append(each)
        if progress is not None:
            progress(turn + 1, turns)
    return {stage: StepTimings(*map(Timings.of, zip(*times, strict=True))) for stage, times in found.items()}


def _run(
    backend: Backend, chain: Chain, images: npt.NDArray[np.float32], buffers: Mapping[FusedStage, State]
) -> list[tuple[float, float, float]]:
    """Run a chain once and return the seconds of each stage: of the copy, the run, and the whole step."""
    seconds = []
    state: State = (images,)
    rows = np.arange(len(images))
    for stage in chain:
        start = perf_counter()
        if stage in buffers:
            backend.copy_rows(state, rows if stage.first else None, buffers[stage], 0)
            state = buffers[stage]
        copied = perf_counter()
        logits, state = backend.run(stage, state, len(images))
        ran = perf_counter()
        exit_scores(logits, "confidence", 1.0, None)
        seconds.append((copied - start, ran - copied, perf_counter() - start))
    return seconds
