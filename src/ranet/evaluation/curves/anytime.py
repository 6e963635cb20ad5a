"""Anytime prediction: every exit answers every image; how accurate and how well calibrated each is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torchmetrics.functional.classification import binary_calibration_error

from ranet.calibration.policies.outcome import Costs, costs_of_images
from ranet.calibration.scores.exit_scores import ExitScores

Floats = npt.NDArray[np.float64]
BINS = 15


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


def expected_calibration_error(
    confidence: npt.NDArray[np.float32], correct: npt.NDArray[np.bool_], bins: int = BINS
) -> float:
    """Return ECE = sum over bins b of (n_b / n) |accuracy_b - mean confidence_b|, with bins of equal width on [0, 1].

    The confidences (N,) are in [0, 1]; correct (N,) says whether each prediction is right.

    This is the top-label error of Guo et al., "On Calibration of Modern Neural Networks" (ICML 2017), section 2. The
    binary error of torchmetrics gives it without all probabilities, which the multiclass error needs.

    Example:
        >>> round(expected_calibration_error(np.float32([0.9, 0.9, 0.6]), np.array([True, False, True])), 4)
        0.4
    """
    # Rounding can put a softmax value slightly above 1, which torchmetrics would take for a logit.
    preds = torch.from_numpy(np.clip(confidence, 0.0, 1.0))
    return float(binary_calibration_error(preds, torch.from_numpy(correct).long(), n_bins=bins, norm="l1"))


def calibration_error_per_exit(scores: ExitScores, bins: int = BINS) -> npt.NDArray[np.float64]:
    """Return (K,) the expected calibration error of each exit on all images."""
    pairs = zip(scores.confidence, scores.correct, strict=True)
    return np.array([expected_calibration_error(confidence, correct, bins) for confidence, correct in pairs])
