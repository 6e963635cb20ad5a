"""Calibration error: the distance between the confidence of an exit and its accuracy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torchmetrics.functional.classification import binary_calibration_error

from ranet.calibration.scores.exit_scores import ExitScores

BINS = 15


def expected_calibration_error(
    confidence: npt.NDArray[np.float32], correct: npt.NDArray[np.bool_], bins: int = BINS
) -> float:
    """Return ECE = sum over bins b of (n_b / n) |accuracy_b - mean confidence_b|, with bins of equal width on [0, 1].

    This is the top-label error of Guo et al., "On Calibration of Modern Neural Networks" (ICML 2017), section 2. It
    needs only the confidence and the correctness, as the binary error of torchmetrics does. The multiclass error needs
    all probabilities and gives the same number.

    Args:
        confidence: (N,) confidences in [0, 1].
        correct: (N,) whether the prediction is right.
        bins: number of bins.

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
