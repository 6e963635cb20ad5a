"""The papers' exit policy: the shares of the exits follow a geometric series.

Source: Huang et al., "Multi-Scale Dense Networks for Resource Efficient Image Classification", ICLR 2018, section 5
(budgeted batch classification); Yang et al., "Resolution Adaptive Networks", CVPR 2020, follows it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ranet.calibration.policies.exit_policy import ExitPolicy
from ranet.calibration.scores.exit_scores import ExitScores
from ranet.errors import UserError

PAPER_RATIOS: npt.NDArray[np.float64] = np.arange(1, 40) / 20
"""0.05, 0.10 .. 1.95: the 39 ratios that the papers sweep."""


def geometric_quotas(
    ratios: Sequence[float] | npt.NDArray[np.float64], num_exits: int, num_images: int
) -> npt.NDArray[np.int64]:
    """Return how many of n validation images are to leave at each exit: floor(n q_k), where q_k = r^k / sum_j r^j.

    Args:
        ratios: (R,) positive ratios; below 1 more images leave early, above 1 late.
        num_exits: K.
        num_images: n.

    Returns:
        (R, K) quotas.

    Example:
        >>> geometric_quotas([0.5, 1.0, 2.0], num_exits=3, num_images=21)
        array([[12,  6,  3],
               [ 7,  7,  7],
               [ 3,  6, 12]])
    """
    ratio = np.asarray(ratios, dtype=np.float64)[:, None]
    # The largest power is kept at 1, or extreme ratios would overflow. The multiplication by n comes before the
    # division, or rounding would push integers down: 49 * (1 / 49) is 0.9999999999999999.
    exponents = np.arange(num_exits) - np.where(ratio > 1, num_exits - 1, 0)
    powers = ratio**exponents
    return np.floor(num_images * powers / powers.sum(axis=1, keepdims=True)).astype(np.int64)


def descending(scores: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """Return (K - 1, N) the images of each exit but the last, surest first."""
    return np.argsort(-scores[:-1], axis=1)


def quota_thresholds(
    scores: npt.NDArray[np.float32], quotas: npt.NDArray[np.int64], order: npt.NDArray[np.int64] | None = None
) -> npt.NDArray[np.float32]:
    """Return the thresholds at which each exit's quota of images leaves, for many policies at once.

    The exits are solved in order. The remaining images are sorted by score, and the threshold is the score of image
    n_k, where n_k is the quota of exit k. All images with this score or more leave, ties included. If the quota is 0 or
    larger than the number of remaining images, no image leaves and the threshold is infinite.

    Images are sorted once for each exit; each policy then looks up its remaining images in this order.

    Args:
        scores: (K, N) validation scores, higher is surer.
        quotas: (R, K) or (R, K - 1); the quota of the last exit is ignored: the remaining images leave there.
        order: `descending(scores)`, for callers that solve many times on the same scores.

    Returns:
        (R, K - 1) thresholds.

    Example:
        >>> scores = np.float32([[0.9, 0.8, 0.7, 0.6], [0.5, 0.5, 0.8, 0.9]])
        >>> quota_thresholds(scores, np.array([[1], [2], [0]]))
        array([[0.9],
               [0.8],
               [inf]], dtype=float32)
    """
    exits, images = scores.shape
    order = descending(scores) if order is None else order
    thresholds = np.full((len(quotas), exits - 1), np.inf, dtype=np.float32)
    here = np.ones((len(quotas), images), dtype=bool)
    for k in range(exits - 1):
        for i in np.flatnonzero(quotas[:, k]):
            # Positions in the order of the remaining images; a cumulative sum over all policies at once is slower.
            remaining = np.flatnonzero(here[i].take(order[k]))
            if quotas[i, k] <= len(remaining):
                thresholds[i, k] = scores[k, order[k, remaining[quotas[i, k] - 1]]]
        here &= scores[k] < thresholds[:, k, None]
    return thresholds


def geometric_thresholds(
    scores: npt.NDArray[np.float32],
    ratios: Sequence[float] | npt.NDArray[np.float64],
    order: npt.NDArray[np.int64] | None = None,
) -> npt.NDArray[np.float32]:
    """Return the thresholds of the geometric policy for many ratios at once: `quota_thresholds` of `geometric_quotas`.

    Args:
        scores: (K, N) validation scores, higher is surer.
        ratios: (R,) ratios.
        order: `descending(scores)`, for callers that solve many times on the same scores.

    Returns:
        (R, K - 1) thresholds.

    Example:
        >>> scores = np.float32([[0.9, 0.8, 0.7, 0.6], [0.5, 0.5, 0.8, 0.9]])
        >>> geometric_thresholds(scores, [0.5, 1.0])  # quotas of exit 1: floor(4 * 2/3) = 2, floor(4 * 1/2) = 2
        array([[0.8],
               [0.8]], dtype=float32)
    """
    return quota_thresholds(scores, geometric_quotas(ratios, *scores.shape), order)


def geometric_policy(scores: ExitScores, ratio: float) -> ExitPolicy:
    """Return the geometric policy of one ratio, solved on validation scores; see `geometric_thresholds`.

    Raises:
        UserError: unless the ratio is a positive number.
    """
    if not 0 < ratio < np.inf:
        raise UserError(f"The ratio of the geometric policy must be a positive number, not {ratio}.")
    thresholds = geometric_thresholds(scores.confidence, [ratio])[0]
    return ExitPolicy(tuple(thresholds.tolist()), metadata={"policy": "geometric", "ratio": ratio})
