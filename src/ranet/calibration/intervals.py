"""How sure a promise is: bootstrap intervals over the images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

LEVEL = 0.95
RESAMPLES = 2000
Interval = tuple[float, float]


@dataclass(frozen=True)
class OutcomeIntervals:
    """Percentile bootstrap intervals of what a policy comes to.

    Attributes:
        accuracy: of top-1, fractions; None where labels are not known.
        cost: of the mean cost.
    """

    accuracy: Interval | None
    cost: Interval


def bootstrap_intervals(
    exits: npt.NDArray[np.int64],
    correct: npt.NDArray[np.bool_] | None,
    cost_per_exit: npt.NDArray[np.float64],
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> OutcomeIntervals:
    """Percentile bootstrap over images (Efron, "Bootstrap Methods", Annals of Statistics, 1979) for a fixed policy.

    Images that leave at the same exit and are right alike are the same to accuracy and cost, so a resample of N images
    is one draw of how many fall into each of these 2 K cells: as exact as drawing images, and independent of N.

    Args:
        exits: (N,) where each image leaves.
        correct: (N,) whether the answer there is right; None where that is not known.
        cost_per_exit: (K,).
        level: share of the resamples that the interval holds.
        resamples: how many are drawn.
        seed: of the draws.

    Example:
        >>> exits, correct = np.array([0, 0, 1, 1]).repeat(100), np.array([True, True, True, False]).repeat(100)
        >>> intervals = bootstrap_intervals(exits, correct, np.array([1.0, 3.0]))
        >>> [round(end, 2) for end in intervals.accuracy], [round(end, 1) for end in intervals.cost]
        ([0.71, 0.79], [1.9, 2.1])
    """
    num_exits, images = len(cost_per_exit), len(exits)
    right = np.zeros(images, dtype=np.int64) if correct is None else correct.astype(np.int64)
    cells = np.bincount(2 * exits + right, minlength=2 * num_exits)
    drawn = np.random.default_rng(seed).multinomial(images, cells / images, size=resamples)
    costs = drawn @ np.repeat(cost_per_exit, 2) / images
    accuracies = None if correct is None else drawn[:, 1::2].sum(axis=1) / images
    return OutcomeIntervals(
        accuracy=None if accuracies is None else _between(accuracies, level), cost=_between(costs, level)
    )


def _between(values: npt.NDArray[np.float64], level: float) -> Interval:
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def accuracy_difference(
    one: npt.NDArray[np.bool_],
    other: npt.NDArray[np.bool_],
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[float, Interval]:
    """How much more often one policy is right than another on the same images, with its bootstrap interval.

    Images that both get right or wrong count nothing, so two policies that agree on most images are told apart by far
    fewer than their own intervals suggest.

    Args:
        one: (N,) whether the first policy's answer is right.
        other: (N,) likewise, of the second, for the same images.
        level: share of the resamples that the interval holds.
        resamples: how many are drawn.
        seed: of the draws.

    Returns:
        The difference of the accuracies, and its interval.

    Example:
        >>> one, other = np.array([True] * 90 + [False] * 10), np.array([True] * 80 + [False] * 20)
        >>> difference, (low, high) = accuracy_difference(one, other)
        >>> round(difference, 2), 0 < low < 0.1 < high < 0.2
        (0.1, True)
    """
    images = len(one)
    better, worse = int((one & ~other).sum()), int((other & ~one).sum())
    cells = np.array([better, worse, images - better - worse]) / images
    drawn = np.random.default_rng(seed).multinomial(images, cells, size=resamples)
    return (better - worse) / images, _between((drawn[:, 0] - drawn[:, 1]) / images, level)
