"""How long fused stages take on this machine, by batch size: what the engine decides by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np
import numpy.typing as npt

from ranet.cost.timings import MILLISECONDS, Timings
from ranet.inference.runtimes.backend import Backend, State, sized
from ranet.inference.stages.fused_stages import FusedStage

#: Batch sizes that are measured where a backend takes any.
SIZES = (1, 2, 4, 8, 16, 32, 64)
ROUNDS = 5


@dataclass(frozen=True, eq=False)
class StageTimes:
    """Milliseconds that fused stages take for a whole batch.

    Attributes:
        sizes: the batch sizes that were measured, ascending.
        run: for each stage (sizes,) the median of its runs, cut overhead included: state in, state and logits out.
        slow: for each stage (sizes,) the 95th percentile of its runs, for deadlines.
        copy: for each stage the milliseconds that one row takes on its way into the buffer that the stage starts from.
    """

    sizes: tuple[int, ...]
    run: dict[FusedStage, npt.NDArray[np.float64]]
    slow: dict[FusedStage, npt.NDArray[np.float64]]
    copy: dict[FusedStage, float]

    def of(self, stage: FusedStage, rows: int) -> float:
        """Milliseconds of a stage for a batch of this many rows: measured, or between two measured sizes."""
        return float(np.interp(rows, self.sizes, self.run[stage]))

    def cautious(self, stage: FusedStage, rows: int) -> float:
        """As `of`, for the slowest of twenty runs."""
        return float(np.interp(rows, self.sizes, self.slow[stage]))

    def best_size(self, stages: Sequence[FusedStage]) -> int:
        """The batch size at which an image takes the least time through all of these stages.

        Among sizes within 3 % of the best the smallest: it answers sooner and holds less memory.
        """
        per_image = sum(self.run[stage] for stage in stages) / np.asarray(self.sizes)
        return int(self.sizes[int(np.flatnonzero(per_image <= per_image.min() * 1.03)[0])])

    def compaction_pays(self, stage: FusedStage, before: int, after: int, backend: Backend) -> bool:
        """Whether to copy the rows that go on into a smaller batch takes less time than to let the batch go on whole.

        Args:
            stage: the one that comes next; behind it the question is asked again.
            before: rows of the batch as it is.
            after: rows that go on.
            backend: that runs the stage.
        """
        whole, compact = sized(backend, before), sized(backend, after)
        return self.of(stage, compact) + after * self.copy[stage] < self.of(stage, whole)

    def including(self, other: StageTimes) -> StageTimes:
        """These times and those of other stages, measured at the same sizes."""
        assert self.sizes == other.sizes
        return StageTimes(
            self.sizes, {**self.run, **other.run}, {**self.slow, **other.slow}, {**self.copy, **other.copy}
        )


def measure_stages(
    backend: Backend, stages: Sequence[FusedStage], sizes: Sequence[int] | None = None, rounds: int = ROUNDS
) -> StageTimes:
    """Time fused stages on random images.

    The stages take turns, as in a network, so that none finds its weights and its state in the cache because it has
    just run. Each starts from a state that stages before it computed.

    Args:
        backend: that runs them.
        stages: any fused stages of its network.
        sizes: batch sizes; by default all of the backend's, or `SIZES`.
        rounds: how often each stage is timed at each size; ten times as often where it takes under a millisecond.
    """
    chosen = tuple(sizes if sizes is not None else backend.fixed_sizes or SIZES)
    run: dict[FusedStage, list[float]] = {stage: [] for stage in stages}
    slow: dict[FusedStage, list[float]] = {stage: [] for stage in stages}
    copy: dict[FusedStage, float] = {}
    for size in chosen:
        buffers = _filled_buffers(backend, stages, size)
        seconds: dict[FusedStage, list[float]] = {stage: [] for stage in stages}
        for stage in stages:
            backend.run(stage, buffers[stage], size)
        start = perf_counter()
        while (done := len(seconds[stages[0]])) < rounds or (
            done < 10 * rounds and perf_counter() - start < len(stages) * rounds / MILLISECONDS
        ):
            for stage in stages:
                before = perf_counter()
                backend.run(stage, buffers[stage], size)
                seconds[stage].append(perf_counter() - before)
        for stage in stages:
            timings = Timings.of(seconds[stage])
            run[stage].append(timings.median)
            slow[stage].append(timings.p95)
        if size == chosen[-1]:
            copy = {stage: _copy_time(backend, stage, buffers[stage], size) for stage in stages}
    # A larger batch never takes less: where it seems so, something else ran.
    arrays = [{stage: np.maximum.accumulate(values) for stage, values in each.items()} for each in (run, slow)]
    return StageTimes(chosen, arrays[0], arrays[1], copy)


def _filled_buffers(backend: Backend, stages: Sequence[FusedStage], size: int) -> dict[FusedStage, State]:
    """For each stage a buffer with the state of random images before it."""
    images = np.random.default_rng(0).standard_normal((size, *backend.facts.input_shape), dtype=np.float32)
    buffers: dict[FusedStage, State] = {}
    for stage in stages:
        buffer = backend.buffer(stage, size)
        backend.prepare(stage, buffer)
        buffers[stage] = buffer
        if stage.first == 0:
            backend.copy_rows((images,), None, buffer, 0)
    # In order, so that whatever ends where a stage starts has run before it.
    for stage in sorted(stages):
        _, after = backend.run(stage, buffers[stage], size)
        for later in stages:
            if later.first == stage.last + 1 and after:
                backend.copy_rows(after, None, buffers[later], 0)
    return buffers


def _copy_time(backend: Backend, stage: FusedStage, buffer: State, size: int) -> float:
    """Milliseconds a row, the median of a few copies of every other row, as compaction copies them."""
    source = backend.buffer(stage, size)
    backend.copy_rows(buffer, None, source, 0)
    rows = np.arange(0, size, 2)
    seconds = []
    for _ in range(ROUNDS):
        before = perf_counter()
        backend.copy_rows(source, rows, buffer, 0)
        seconds.append(perf_counter() - before)
    return float(np.median(seconds)) * MILLISECONDS / len(rows)
