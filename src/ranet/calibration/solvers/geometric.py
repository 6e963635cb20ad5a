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
    """How many of n validation images each exit shall take: floor(n q_k), where q_k = r^k / sum_j r^j.

    Args:
        ratios: (R,), positive; below 1 the early exits take more, above 1 the late ones.
        num_exits: K.
        num_images: n.

    Returns:
        (R, K).

    Example:
        >>> geometric_quotas([0.5, 1.0, 2.0], num_exits=3, num_images=21)
        array([[12,  6,  3],
               [ 7,  7,  7],
               [ 3,  6, 12]])
    """
    ratio = np.asarray(ratios, dtype=np.float64)[:, None]
    # The largest power is kept at 1, or extreme ratios would overflow; and n comes before the division, or rounding
    # would push whole numbers down: 49 * (1 / 49) is 0.9999999999999999.
    exponents = np.arange(num_exits) - np.where(ratio > 1, num_exits - 1, 0)
    powers = ratio**exponents
    return np.floor(num_images * powers / powers.sum(axis=1, keepdims=True)).astype(np.int64)


def descending(scores: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """(K - 1, N) the images of each exit but the last, surest first."""
    return np.argsort(-scores[:-1], axis=1)


def quota_thresholds(
    scores: npt.NDArray[np.float32], quotas: npt.NDArray[np.int64], order: npt.NDArray[np.int64] | None = None
) -> npt.NDArray[np.float32]:
    """The thresholds by which so many images leave at each exit, for many policies at once.

    Exit after exit: among the images that have not left, sorted by score, the threshold is the score of the n_k-th, n_k
    the exit's quota. Everybody at or above it has left, ties included. Where the quota is 0 or fewer images remain,
    nobody leaves and the threshold is infinite.

    Images are sorted once for each exit; a policy then only looks who is still there along that order.

    Args:
        scores: (K, N) on validation, more is surer.
        quotas: (R, K) or (R, K - 1); the last exit takes who remains, whatever its quota says.
        order: `descending(scores)`, for callers that solve many times on the same scores.

    Returns:
        (R, K - 1).

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
            # The places in the order that are still taken; a cumulative sum over all policies at once is slower.
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
    """The thresholds of the geometric policy for many ratios at once: `quota_thresholds` of `geometric_quotas`.

    Args:
        scores: (K, N) on validation, more is surer.
        ratios: (R,).
        order: `descending(scores)`, for callers that solve many times on the same scores.

    Returns:
        (R, K - 1).

    Example:
        >>> scores = np.float32([[0.9, 0.8, 0.7, 0.6], [0.5, 0.5, 0.8, 0.9]])
        >>> geometric_thresholds(scores, [0.5, 1.0])  # quotas of exit 1: floor(4 * 2/3) = 2, floor(4 * 1/2) = 2
        array([[0.8],
               [0.8]], dtype=float32)
    """
    return quota_thresholds(scores, geometric_quotas(ratios, *scores.shape), order)


def geometric_policy(scores: ExitScores, ratio: float) -> ExitPolicy:
    """The geometric policy of one ratio, solved on validation scores; see `geometric_thresholds`.

    Raises:
        UserError: unless the ratio is a positive number.
    """
    if not 0 < ratio < np.inf:
        raise UserError(f"The ratio of the geometric policy must be a positive number, not {ratio}.")
    thresholds = geometric_thresholds(scores.confidence, [ratio])[0]
    return ExitPolicy(tuple(thresholds.tolist()), metadata={"policy": "geometric", "ratio": ratio})
