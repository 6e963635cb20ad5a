"""Temperature scaling: one number for each exit that calibrates its probabilities.

Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, section 4.2.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import brentq
from torch import Tensor

from ranet.calibration.scores.checks import check_logits
from ranet.errors import UserError

LOWEST, HIGHEST = 0.05, 20.0


def fit_temperatures(logits: Tensor | npt.ArrayLike, labels: Tensor | npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Fit the temperature of each exit by maximum likelihood, (K,).

    The temperature T of an exit minimises the mean negative log-likelihood of the labels under softmax(logits / T). It
    is convex in 1 / T, with the derivative E[z] - z_y: the mean logit under that softmax minus the logit of the label,
    averaged over the images. Its only zero is found by Brent's method in float64, one exit at a time. T is kept within
    [0.05, 20]: if every label has the largest logit, the likelihood rises without limit as T goes to 0; if the logits
    are worse than chance, as T goes to infinity. If all logits of every image are equal, T is 1.

    Fit on other images than the thresholds, or the promise of the thresholds is too optimistic. Temperatures do not
    change predictions, only how sure exits are relative to each other.

    Args:
        logits: (K, N, C), of any floating precision.
        labels: (N,) class indices.

    Raises:
        UserError: if shapes are wrong, there are no images, labels are outside 0..C-1, or logits are not finite.

    Example:
        Three labels of four follow logits that differ by 6, so these should differ by log 3:

        >>> logits = torch.tensor([[[6.0, 0.0]] * 4])
        >>> temperature = fit_temperatures(logits, torch.tensor([0, 0, 0, 1]))
        >>> round(float(6 / temperature[0]), 6), round(math.log(3), 6)
        (1.098612, 1.098612)
    """
    logits, labels = torch.as_tensor(logits).detach(), torch.as_tensor(labels)
    _check(logits, labels)
    known = labels.cpu().to(torch.int64).numpy()
    return np.array([_fit(of_exit.double().cpu().numpy(), known) for of_exit in logits])


def _check(logits: Tensor, labels: Tensor) -> None:
    check_logits(logits, labels)
    if 0 in logits.shape:
        raise UserError(
            f"There are no images to fit temperatures on: the logits are {tuple(logits.shape)} (exits, images, "
            "classes); use more validation images."
        )
    if logits.is_complex() or not torch.isfinite(logits).all():
        raise UserError(
            "Temperatures need finite logits, and some are not finite: the network has diverged, or its weights or the "
            "scores are damaged."
        )
    low, high, classes = float(labels.min()), float(labels.max()), logits.shape[2]
    if not 0 <= low <= high <= classes - 1:
        raise UserError(
            f"Labels must lie in 0..{classes - 1} for logits of {classes} classes, not {low:g}..{high:g}: use "
            "the logits and labels of the same images."
        )


def _fit(logits: npt.NDArray[np.float64], labels: npt.NDArray[np.int64]) -> float:
    """Fit the temperature of one exit: logits (N, C), labels (N,)."""
    logits = logits - logits.max(axis=1, keepdims=True)  # at most 0, so that no exponential overflows
    of_labels = float(logits[np.arange(len(labels)), labels].mean())
    weights = np.empty_like(logits)

    def slope(log_inverse: float) -> float:
        """Return the derivative of the negative log-likelihood with respect to 1 / T; it never falls as 1 / T rises."""
        np.exp(np.multiply(logits, math.exp(log_inverse), out=weights), out=weights)
        expected = np.einsum("nc,nc->n", weights, logits) / weights.sum(axis=1)
        return float(expected.mean()) - of_labels

    coldest, hottest = -math.log(LOWEST), -math.log(HIGHEST)
    if not logits.any():
        return 1.0
    if slope(coldest) <= 0:
        return LOWEST
    if slope(hottest) >= 0:
        return HIGHEST
    return math.exp(-brentq(slope, hottest, coldest, xtol=1e-12))
