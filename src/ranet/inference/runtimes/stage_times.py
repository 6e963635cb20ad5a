"""The one measurement of how long fused stages take: for the engine, costs in milliseconds and the benchmark."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ranet.calibration.scores.in_numpy import exit_scores
from ranet.cost.timings import MILLISECONDS
from ranet.inference.runtimes.backend import Backend, State, sized
from ranet.inference.stages.fused_stages import FusedStage

#: Batch sizes that are measured where a backend takes any.
SIZES = (1, 2, 4, 8, 16, 32, 64)
#: Each chain has this many turns, and at least one run in each.
ROUNDS = 5
#: Seconds for each stage of each chain and each batch size, unless more are asked for.
QUICK = 0.005
Chain = Sequence[FusedStage]
Floats = npt.NDArray[np.float64]


class StepSeconds(NamedTuple):
    """Seconds of a fused stage as one step of the engine.

    Attributes:
        copy: of the state into the buffer that the stage starts from; nearly 0 where it is handed on as it is, as the
            engine does with the state of a single image.
        run: of the stage, state in, logits and state out.
        step: of both and the scores at the exit, by which images leave.
    """

    copy: float
    run: float
    step: float


class Curves(NamedTuple):
    """Milliseconds of a fused stage for a whole batch, by batch size.

    These are the medians of `StepSeconds`, and ``slow``, the 95th percentile of the steps.
    """

    copy: Floats
    run: Floats
    step: Floats
    slow: Floats


@dataclass(frozen=True, eq=False)
class StageTimes:
    """The milliseconds of fused stages at the measured batch sizes, which ascend, and decisions by them."""

    sizes: tuple[int, ...]
    curves: Mapping[FusedStage, Curves]

    def step(self, stage: FusedStage, rows: int) -> float:
        """Return the median milliseconds of a step on this many rows: measured, or between two measured sizes."""
        return self._at(rows, self.curves[stage].step)

    def cautious(self, stage: FusedStage, rows: int) -> float:
        """Return the 95th percentile of the milliseconds of a step on this many rows, for deadlines."""
        return self._at(rows, self.curves[stage].slow)

    def best_size(self, stages: Chain) -> int:
        """Return the batch size at which an image takes the least time through all of these stages.

        Among sizes within 3 % of the best it is the smallest: it answers sooner and holds less memory.
        """
        per_image = sum(self.curves[stage].step for stage in stages) / np.asarray(self.sizes)
        return int(self.sizes[int(np.flatnonzero(per_image <= per_image.min() * 1.03)[0])])

    def compaction_pays(self, stage: FusedStage, before: int, after: int, backend: Backend) -> bool:
        """Return whether copying the rows that go on into a smaller batch is faster than going on with the whole batch.

        The stage is the one that comes next; behind it the question is asked again.
        """
        copy, run, *_ = self.curves[stage]
        compact = self._at(after, copy) + self._at(sized(backend, after), run)
        return compact < self._at(sized(backend, before), run)

    def including(self, other: StageTimes) -> StageTimes:
        """Return these times and others, measured at the same sizes; the others hold where both have a stage."""
        assert self.sizes == other.sizes
        return StageTimes(self.sizes, {**self.curves, **other.curves})

    def _at(self, rows: int, curve: Floats) -> float:
        return float(np.interp(rows, self.sizes, curve))


def measure_stages(backend: Backend, chains: Sequence[Chain], sizes: Sequence[int]) -> StageTimes:
    """Measure all stages of some chains (`time_chains`) at these batch sizes, quickly."""
    found: dict[FusedStage, list[tuple[float, ...]]] = {stage: [] for chain in chains for stage in chain}
    for size in sizes:
        passes = time_chains([(backend, chain) for chain in chains], size)
        for stage, by_size in found.items():
            steps = MILLISECONDS * np.array([step for timed in passes for step in timed.get(stage, ())])
            by_size.append((*np.median(steps, axis=0), np.quantile(steps[:, -1], 0.95)))
    # A larger batch never takes less: where it seems so, something else ran.
    return StageTimes(tuple(sizes), {stage: Curves(*np.maximum.accumulate(each).T) for stage, each in found.items()})


def time_chains(
    chains: Sequence[tuple[Backend, Chain]],
    size: int,
    seconds: float | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> list[dict[FusedStage, list[StepSeconds]]]:
    """Time chains of fused stages on random images as the engine runs them.

    The stages of a chain run one after another, the same chain several times. So each starts from what the one before
    it handed on, and finds in the cache what it would find there when an engine answers many images, neither more (as
    when it ran alone, over and over) nor less (as when all took turns, whose weights together are several networks').

    All runs take about ``seconds`` together, by default `QUICK` for each stage. Each chain has at least `ROUNDS` runs.

    Returns:
        For each chain the seconds of each run of its stages.
    """
    buffers: dict[tuple[Backend, FusedStage], State] = {}
    for backend, chain in chains:
        for stage in chain:
            # The engine copies images, and the rows that go on behind an exit, unless it is a single one.
            if (backend, stage) not in buffers and (stage.first == 0 or size > 1):
                buffers[backend, stage] = backend.buffer(stage, size)
    images = [
        np.random.default_rng(0).standard_normal((size, *backend.facts.input_shape), dtype=np.float32)
        for backend, _ in chains
    ]
    for number, (backend, chain) in enumerate(chains):
        _run(backend, chain, images[number], buffers)  # for what only the first run does
    # In turns, so that work of others on the machine slows down all chains, and not one of them.
    turns = ROUNDS * len(chains)
    time = (QUICK * sum(len(chain) for _, chain in chains) if seconds is None else seconds) / turns
    found: list[dict[FusedStage, list[StepSeconds]]] = [{stage: [] for stage in chain} for _, chain in chains]
    for turn in range(turns):
        number = turn % len(chains)
        passes: list[list[StepSeconds]] = []
        end = perf_counter() + time
        while not passes or perf_counter() < end:
            passes.append(_run(*chains[number], images[number], buffers))
        # The first has found another chain's weights in the cache; where a run is long, that does not matter.
        for steps in passes[1:] if len(chains) > 1 and len(passes) > 1 else passes:
            for stage, step in zip(found[number], steps, strict=True):
                found[number][stage].append(step)
        if progress is not None:
            progress(turn + 1, turns)
    return found


def _run(
    backend: Backend,
    chain: Chain,
    images: npt.NDArray[np.float32],
    buffers: Mapping[tuple[Backend, FusedStage], State],
) -> list[StepSeconds]:
    """Run a chain once, and time each of its stages."""
    steps = []
    state: State = (images,)
    rows = np.arange(len(images))
    for stage in chain:
        start = perf_counter()
        buffer = buffers.get((backend, stage))
        if buffer is not None:
            backend.copy_rows(state, rows if stage.first else None, buffer, 0)
            state = buffer
        copied = perf_counter()
        logits, state = backend.run(stage, state, len(images))
        ran = perf_counter()
        exit_scores(logits, "confidence", 1.0, None)
        steps.append(StepSeconds(copied - start, ran - copied, perf_counter() - start))
    return steps
