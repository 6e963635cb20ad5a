"""Which images leave behind a step: the one decision of batches, single images, deadlines and streams."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ranet.calibration.scores.in_numpy import Floats, Runs, exit_scores
from ranet.inference.engine.plan import Step

Indices = npt.NDArray[np.intp]


class Leaving(NamedTuple):
    """Which images of a batch leave and which go on.

    Attributes:
        out: the rows of the images that leave.
        stay: the rows of those that go on.
        runs: of those that go on, for patience; else None.
    """

    out: Indices
    stay: Indices
    runs: Runs | None


def leaving(step: Step, score: str, logits: Floats, before: Runs | None) -> Leaving:
    """Decide about a batch behind a step whose exit is looked at.

    An image leaves if its score reaches the threshold; one without a finite score goes on.

    Args:
        step: the step.
        score: what the policy compares.
        logits: (B, C) of the exit.
        before: what the exits before have said of these images, for patience; None at the first.

    Example:
        >>> from ranet.inference.stages.fused_stages import FusedStage
        >>> step = Step(FusedStage(0, 0), True, np.float32(0.9), 1.0)
        >>> leaving(step, "confidence", np.float32([[9, 0], [0, 0]]), None)
        Leaving(out=array([0]), stay=array([1]), runs=None)
    """
    scores, runs = exit_scores(logits, score, step.temperature, before)
    leaves = scores >= step.threshold
    (out,), (stay,) = leaves.nonzero(), (~leaves).nonzero()
    return Leaving(out, stay, None if runs is None else Runs(runs.labels[stay], runs.lengths[stay]))
