"""Confidence intervals of accuracy and mean cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ranet.calibration.bounds import clopper_pearson_lower, clopper_pearson_upper
from ranet.cost.table import ImageCosts

if TYPE_CHECKING:
    from ranet.calibration.scores.exit_scores import ExitScores

LEVEL = 0.95
DRAWS = 4000
FEW = 100  # fewer images than this give a notice
_NAMED = 3  # most classes to name in a notice
_LEVELS = 256  # of costs that differ between images
Interval = tuple[float, float]


@dataclass(frozen=True)
class OutcomeIntervals:
    """Intervals of a policy's top-1 accuracy (None without labels) and mean cost on the population of the images."""

    accuracy: Interval | None
    cost: Interval


def mean_interval(
    counts: npt.ArrayLike, values: npt.ArrayLike, *, level: float = LEVEL, draws: int = DRAWS, seed: int = 0
) -> Interval:
    """Return the interval of the mean of a variable that can take only the given values.

    Each end is a quantile of the weighted mean of the observed values and one more value: the smallest possible one for
    the lower end, the largest for the upper. The weights are random, uniform over all that sum to 1 (Learned-Miller and
    Thomas, "A New Confidence Interval for the Mean of a Bounded Random Variable", 2019). So, unlike a bootstrap, it
    allows for values that a small sample does not show. For two values it is exactly that of Clopper and Pearson
    (`clopper_pearson_upper`). It is a single point only if there is one value.

    Args:
        counts: (V,) number of images with each value; at least one image in all.
        values: (V,) all possible values.
        level: least probability that the interval holds the population mean.
        draws: number of random weights.
        seed: seed of the random weights.

    Example:
        >>> [round(end, 3) for end in mean_interval([0, 4], [0.0, 1.0])], mean_interval([4], [2.5])
        ([0.398, 1.0], (2.5, 2.5))
        >>> [round(end, 1) for end in mean_interval([10, 0, 0], [1.0, 2.0, 4.0])]
        [1.0, 1.9]
    """
    seen, value = np.asarray(counts, dtype=np.int64), np.asarray(values, dtype=np.float64)
    low, high, tail = float(value.min()), float(value.max()), (1 - level) / 2
    if low == high:
        return low, high
    if len(value) == 2:
        images, large = int(seen.sum()), int(seen[value.argmax()])
        least, most = (float(end(large, images, tail)) for end in (clopper_pearson_lower, clopper_pearson_upper))
        return low + least * (high - low), low + most * (high - low)
    # Uniform weights are exponential variables over their sum; the weights of equal values sum to a gamma variable.
    rng = np.random.default_rng(seed)
    weights, unseen = rng.standard_gamma(seen, size=(draws, len(value))), rng.standard_exponential(draws)
    total, sums = weights.sum(axis=1) + unseen, weights @ value
    lower, upper = (np.quantile((sums + unseen * end) / total, q) for end, q in ((low, tail), (high, 1 - tail)))
    return float(np.clip(lower, low, high)), float(np.clip(upper, low, high))


def accuracy_interval(right: int, images: int, *, level: float = LEVEL) -> Interval:
    """Return the exact interval of an accuracy of ``right`` out of ``images``; see `mean_interval`."""
    return mean_interval([images - right, right], [0.0, 1.0], level=level)


def outcome_intervals(
    exits: npt.NDArray[np.int64],
    correct: npt.NDArray[np.bool_] | None,
    costs: ImageCosts,
    possible: npt.NDArray[np.bool_],
) -> OutcomeIntervals:
    """Return the intervals of a fixed policy (`mean_interval`); the mean cost is certain if only one exit is possible.

    Args:
        exits: (N,) exit at which each image leaves.
        correct: (N,) whether the answer there is right; None if unknown.
        costs: what the images cost at each exit.
        possible: (K,) whether images can leave at each exit (`ExitPolicy.possible_exits`).

    Example:
        >>> exits, correct = np.array([0, 0, 1, 1]).repeat(100), np.array([True, True, True, False]).repeat(100)
        >>> intervals = outcome_intervals(exits, correct, ImageCosts(np.array([1.0, 3.0])), np.array([True, True]))
        >>> [round(end, 2) for end in intervals.accuracy], [round(end, 1) for end in intervals.cost]
        ([0.7, 0.79], [1.9, 2.1])
    """
    counts, low, high = cost_levels(exits, costs, possible)
    cost = mean_interval(counts, low)[0], mean_interval(counts, high)[1]
    return OutcomeIntervals(None if correct is None else accuracy_interval(int(correct.sum()), len(correct)), cost)


def cost_levels(
    exits: npt.NDArray[np.int64], costs: ImageCosts, possible: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return (V,) how many images have each possible cost, and (V,) its lower and upper end; see `outcome_intervals`.

    Where all images cost the same at an exit, the possible costs are those of the exits, and both ends are the same
    array. Else they are steps of a scale from the least to the most that an image can cost.

    Example:
        >>> costs = ImageCosts(np.array([1.0, 3.0]))
        >>> counts, low, high = cost_levels(np.array([0, 0, 1]), costs, np.array([True, True]))
        >>> counts.tolist(), low.tolist(), low is high
        ([2, 1], [1.0, 3.0], True)
    """
    fixed = costs.fixed[possible]
    if costs.added is None:
        return np.bincount(exits, minlength=len(costs.fixed))[possible], fixed, fixed
    edges = np.linspace(fixed[0], fixed[-1] + costs.parts.sum(), _LEVELS + 1)
    counts, _ = np.histogram(costs.at(exits), edges)
    return counts, edges[:-1], edges[1:]


def accuracy_difference(one: npt.NDArray[np.bool_], other: npt.NDArray[np.bool_]) -> tuple[float, Interval]:
    """Return the accuracy of one policy minus that of another on the same images, and its interval.

    The policies' answers are right or not, (N,) each. An image counts 1 if only the first is right, -1 if only the
    second is, else 0; the interval is that of the mean (`mean_interval`). So two policies that agree on most images can
    be distinguished with far fewer images than their separate intervals suggest.

    Example:
        >>> one, other = np.array([True] * 90 + [False] * 10), np.array([True] * 80 + [False] * 20)
        >>> difference, (low, high) = accuracy_difference(one, other)
        >>> round(difference, 2), 0 < low < 0.1 < high < 0.21
        (0.1, True)
    """
    images = len(one)
    better, worse = int((one & ~other).sum()), int((other & ~one).sum())
    return (better - worse) / images, mean_interval([worse, images - better - worse, better], [-1.0, 0.0, 1.0])


def few_images(scores: ExitScores, split: str, classes: Sequence[str] | None = None) -> str | None:
    """Return a notice if there are few images of a split, or classes without images; else None.

    Without names of the classes, these are the numbers up to the largest label or prediction.

    Example:
        >>> from ranet import ExitScores
        >>> few_images(ExitScores([[0.5] * 30], [[0, 2] * 15], labels=[0, 1] * 15), "test", ["a", "b", "c"])
        'There are only 30 test images, and none of 1 of 3 classes (c): intervals are wide, and that class is untried.'
    """
    images, missing, number = scores.num_images, [], 0
    if scores.has("labels") and (classes is not None or scores.has("prediction")):
        known = set(scores.labels.tolist())
        if classes is None:
            classes = [str(number) for number in range(max(max(known), int(scores.prediction.max())) + 1)]
        number, missing = len(classes), [name for label, name in enumerate(classes) if label not in known]
    of = f"{images:,} {split} image{'' if images == 1 else 's'}"
    named = ", ".join(missing[:_NAMED]) + (", ..." if len(missing) > _NAMED else "")
    none_of = f"none of {len(missing)} of {number} classes ({named})"
    untried = "those classes are untried" if len(missing) > 1 else "that class is untried"
    if images >= FEW:
        return f"Among the {of} there is {none_of}: {untried}." if missing else None
    only = f"There {'is' if images == 1 else 'are'} only {of}"
    if missing:
        return f"{only}, and {none_of}: intervals are wide, and {untried}."
    return f"{only}: intervals are wide, and what looks better may be so by chance."
