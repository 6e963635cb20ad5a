"""Anytime prediction: every exit answers every image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ranet.calibration.policies.outcome import Costs, costs_of_images
from ranet.calibration.scores.exit_scores import ExitScores
from ranet.evaluation.curves.calibration_error import calibration_error_per_exit

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class AnytimeCurve:
    """Cost and accuracy of each exit on all images.

    Attributes:
        cost: (K,) cumulative cost of reaching and running the exit; its mean where images cost different amounts.
        top1: (K,) fraction of the images whose label is the prediction.
        top5: (K,) fraction of the images whose label is among the five most probable classes.
        calibration_error: (K,) expected calibration error, 15 bins.
        confidence: (K,) mean confidence.
        images: number of images.
    """

    cost: Floats
    top1: Floats
    top5: Floats
    calibration_error: Floats
    confidence: Floats
    images: int


def anytime_curve(scores: ExitScores, cost_per_exit: Costs) -> AnytimeCurve:
    """Return the accuracy of each exit and the cumulative cost of reaching it (Huang et al., ICLR 2018, section 5).

    Raises:
        UserError: if there is not one cost for each exit.

    Example:
        >>> scores = ExitScores.from_logits(np.float32([[[2, 0], [2, 0]], [[2, 0], [0, 2]]]), np.array([0, 1]))
        >>> anytime_curve(scores, [1e6, 3e6]).top1
        array([0.5, 1. ])
    """
    return AnytimeCurve(
        cost=costs_of_images(cost_per_exit, scores).means,
        top1=scores.correct.mean(axis=1),
        top5=scores.correct_top5.mean(axis=1),
        calibration_error=calibration_error_per_exit(scores),
        confidence=scores.confidence.mean(axis=1, dtype=np.float64),
        images=scores.num_images,
    )
