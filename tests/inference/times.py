"""Times of fused stages as if they had been measured."""

from collections.abc import Mapping, Sequence

from ranet.cost.timings import Timings
from ranet.inference.runtimes.stage_times import StageTimes, StepTimings
from ranet.inference.stages.fused_stages import FusedStage


def constant(ms: float) -> Timings:
    """Return the timings of runs that all took as long."""
    return Timings(ms, 0.0, ms, 5)


def stage_times(
    sizes: Sequence[int], run: Mapping[FusedStage, Sequence[float]], copy_of_row: float = 0.0
) -> StageTimes:
    """Return the times of stages whose runs take some milliseconds at each size, and whose decisions take none."""
    return StageTimes(
        tuple(sizes),
        {
            stage: tuple(
                StepTimings(constant(copy_of_row * size), constant(ms), constant(copy_of_row * size + ms))
                for size, ms in zip(sizes, times, strict=True)
            )
            for stage, times in run.items()
        },
    )
