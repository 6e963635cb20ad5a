"""Times of fused stages as if they had been measured."""

from collections.abc import Mapping, Sequence

import numpy as np

from ranet.inference.runtimes.stage_times import Curves, StageTimes
from ranet.inference.stages.fused_stages import FusedStage


def stage_times(
    sizes: Sequence[int], run: Mapping[FusedStage, Sequence[float]], copy_of_row: float = 0.0
) -> StageTimes:
    """Return the times of stages whose runs take some milliseconds at each size, and whose decisions take none."""
    copy = copy_of_row * np.array(sizes)
    return StageTimes(
        tuple(sizes),
        {stage: Curves(copy, np.array(ms), copy + np.array(ms), copy + np.array(ms)) for stage, ms in run.items()},
    )
