"""Differences between promise and result, with their sampling error."""

from __future__ import annotations

from dataclasses import dataclass
from math import nan, sqrt

import numpy as np
import numpy.typing as npt

from ranet.calibration.policies.intervals import Interval, mean_interval

RESAMPLES = 2000


@dataclass(frozen=True)
class Difference:
    """A seen mean minus a promised mean."""

    value: float  # difference of the two means
    interval: Interval  # interval of the difference, 95 %
    p_value: float  # probability that chance alone gives a difference at least as large, of either sign
    promised: float  # the promised mean

    @property
    def significant(self) -> bool:
        """Whether the interval excludes 0: the difference is more than chance."""
        return self.interval[0] > 0 or self.interval[1] < 0

    @property
    def in_percent(self) -> Difference:
        """The difference in percent of the promised mean; NaN if that is 0."""
        factor = 100 / self.promised if self.promised else nan
        low, high = self.interval
        return Difference(factor * self.value, (factor * low, factor * high), self.p_value, 100.0)


def mean_difference(
    promised: npt.ArrayLike, seen: npt.ArrayLike, values: npt.ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0
) -> Difference:
    """Return the difference of the means of a value in two samples of images, with the sampling error of both.

    The p-value is that of a permutation test (Pitman, "Significance Tests Which May be Applied to Samples from any
    Populations", 1937). If nothing has changed, both samples come from one population, and every split of all images
    into two samples of these sizes is equally likely. Random splits show what differences come by chance, for any
    number of images and any skew. A split draws only how many images have each value, so its time does not grow with
    the number of images.

    The interval combines those of the two means, (l1, u1) of the promised m1 and (l2, u2) of the seen m2
    (`mean_interval`; Newcombe, "Interval Estimation for the Difference Between Independent Proportions", Statistics in
    Medicine, 1998; Zou and Donner, "Construction of Confidence Limits about Effect Measures", 2008):

        m2 - m1 - sqrt((m2 - l2)^2 + (u1 - m1)^2)   to   m2 - m1 + sqrt((u2 - m2)^2 + (m1 - l1)^2)

    It stays within the possible range, and is a single point only if there is one value.

    The arguments are the (V,) numbers of calibration images and of seen images with each value, all (V,) possible
    values, such as the cost of each exit, or 0 and 1 for wrong and right, and number and seed of the random splits.

    Example:
        >>> change = mean_difference([400, 600], [250, 250], [1.0, 3.0])
        >>> round(change.value, 6), [round(end, 1) for end in change.interval], change.significant
        (-0.2, [-0.3, -0.1], True)
    """
    before, after = np.asarray(promised, dtype=np.int64), np.asarray(seen, dtype=np.int64)
    value, together = np.asarray(values, dtype=np.float64), before + after
    first, second = float(before @ value / before.sum()), float(after @ value / after.sum())
    difference = second - first
    rng = np.random.default_rng(seed)
    drawn = rng.multivariate_hypergeometric(together, int(after.sum()), size=resamples, method="marginals")
    chance = drawn @ value / after.sum() - (together - drawn) @ value / before.sum()
    # Equal differences can differ by rounding, and an interval that touches 0 must not exclude it.
    tolerance = 1e-12 * float(np.abs(value).max())
    as_large = np.count_nonzero(np.abs(chance) >= abs(difference) - tolerance)
    (l1, u1), (l2, u2) = (mean_interval(counts, value, seed=seed) for counts in (before, after))
    low = difference - sqrt((second - l2) ** 2 + (u1 - first) ** 2)
    high = difference + sqrt((u2 - second) ** 2 + (first - l1) ** 2)
    lower, upper = (end if abs(end) > tolerance else 0.0 for end in (low, high))
    return Difference(difference, (lower, upper), float((1 + as_large) / (1 + resamples)), promised=first)
