"""The papers' exit policy: the shares of the exits follow a geometric series.

Source: Huang et al., "Multi-Scale Dense Networks for Resource Efficient Image Classification", ICLR 2018, section 5
(budgeted batch classification); Yang et al., "Resolution Adaptive Networks", CVPR 2020, follows it.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, inf, log

import numpy as np
import numpy.typing as npt

from ranet.calibration.policies.exit_policy import ExitPolicy, first_exits
from ranet.calibration.scores.exit_scores import ExitScores
from ranet.cost.table import ImageCosts, mean_cost
from ranet.errors import UserError

Scores = npt.NDArray[np.float32]
Thresholds = npt.NDArray[np.float32]

PAPER_RATIOS: npt.NDArray[np.float64] = np.arange(1, 40) / 20
"""0.05, 0.10 .. 1.95: the 39 ratios that the papers sweep."""
GRID = 24
SMALLEST_RATIO = 1e-18  # q_1 rounds to 1 in float64: all images leave at the first exit
RESOLUTION = 1e-13  # of the log ratio; quotas that change within this distance count as changing together


def geometric_quotas(
    ratios: Sequence[float] | npt.NDArray[np.float64], num_exits: int, num_images: int
) -> npt.NDArray[np.int64]:
    """Return (R, K) how many of n images are to leave at each exit: floor(n q_k), where q_k = r^k / sum_j r^j.

    The ratios r are positive, (R,); below 1 more images leave early, above 1 late.

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


def descending(scores: Scores) -> npt.NDArray[np.int64]:
    """Return (K - 1, N) the images of each exit but the last, surest first."""
    return np.argsort(-scores[:-1], axis=1)


def quota_thresholds(
    scores: Scores, quotas: npt.NDArray[np.int64], order: npt.NDArray[np.int64] | None = None
) -> Thresholds:
    """Return (R, K - 1) the thresholds at which each exit's quota of images leaves, for R policies at once.

    The exits are solved in order. The remaining images are sorted by score, and the threshold is the score of image
    n_k, where n_k is the quota of exit k. All images with this score or more leave, ties included. If the quota is 0 or
    larger than the number of remaining images, no image leaves and the threshold is infinite.

    Args:
        scores: (K, N) validation scores, higher is surer.
        quotas: (R, K) or (R, K - 1); the quota of the last exit is ignored: the remaining images leave there.
        order: `descending(scores)`, for callers that solve many times on the same scores.

    Example:
        >>> scores = np.float32([[0.9, 0.8, 0.7, 0.6], [0.5, 0.5, 0.8, 0.9]])
        >>> quota_thresholds(scores, np.array([[1], [2], [0]])).ravel().tolist()
        [0.8999999761581421, 0.800000011920929, inf]
    """
    exits, images = scores.shape
    order = descending(scores) if order is None else order
    thresholds = np.full((len(quotas), exits - 1), inf, dtype=np.float32)
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
    scores: Scores,
    ratios: Sequence[float] | npt.NDArray[np.float64],
    order: npt.NDArray[np.int64] | None = None,
) -> Thresholds:
    """Return (R, K - 1) the `quota_thresholds` of the `geometric_quotas` of R ratios."""
    return quota_thresholds(scores, geometric_quotas(ratios, *scores.shape), order)


def geometric_policy(scores: ExitScores, ratio: float) -> ExitPolicy:
    """Return the geometric policy of one positive ratio, solved on validation scores; see `quota_thresholds`."""
    if not 0 < ratio < inf:
        raise UserError(f"The ratio of the geometric policy must be a positive number, not {ratio}.")
    thresholds = geometric_thresholds(scores.confidence, [ratio])[0]
    return ExitPolicy(tuple(thresholds.tolist()), metadata={"policy": "geometric", "ratio": ratio})


class GeometricSolver:
    """A solver for the ratio whose policy has the largest mean cost within a budget.

    Without ties, exactly the quotas leave, so the mean cost is a step function of the ratio, and bisection finds the
    step at the budget. Where several quotas change at the same ratio, the cost jumps by more than that of one image.
    The quotas are then changed one by one, so that the mean cost is always within (c_K - c_1) / N of the budget.

    With ties, images of equal score leave together, and too few may remain for the next exit's quota; and where the
    network adapts inside, images cost different amounts. In both cases the mean cost of the policies is searched: a
    grid over the ratio finds where it crosses the budget, possibly several times, and bisection narrows each crossing
    to two neighbouring steps.
    """

    def __init__(self, scores: Scores, costs: ImageCosts) -> None:
        self.scores = scores
        self.costs = costs
        self.num_exits, self.num_images = scores.shape
        self.order = descending(scores)
        # Log ratios beyond which nothing changes: at 2n every quota but the last is zero.
        self.lowest, self.end = log(SMALLEST_RATIO), log(2 * self.num_images)

    def solve(self, budget: float) -> tuple[Thresholds, float]:
        """Return the thresholds within a budget of at least the first exit's cost, and their ratio.

        If the budget is at least the last exit's cost, every image runs to the last exit and the ratio is infinite.
        """
        assert budget >= self.costs.means[0], "nothing costs less than the first exit"
        if budget >= self.costs.means[-1]:
            return np.full(self.num_exits - 1, inf, dtype=np.float32), inf
        if self.costs.added is None:
            quotas, ratio = self._solve_quotas(budget)
            thresholds = quota_thresholds(self.scores, quotas[None], self.order)[0]
            left = np.bincount(first_exits(self.scores, thresholds), minlength=self.num_exits)
            if np.array_equal(left, quotas):
                return thresholds, ratio
        return self._search(budget)

    def _quotas(self, log_ratio: float) -> npt.NDArray[np.int64]:
        """Return (K,) quotas that sum to n: the last exit takes the images that rounding leaves over."""
        quotas = geometric_quotas([exp(log_ratio)], self.num_exits, self.num_images)[0]
        quotas[-1] += self.num_images - quotas.sum()
        return quotas

    def _solve_quotas(self, budget: float) -> tuple[npt.NDArray[np.int64], float]:
        """Return the quotas of largest cost within the budget, near those of a ratio."""
        low, high = self.lowest, self.end
        # Bisection, because interpolation does not help on a step function.
        while high - low > RESOLUTION:
            middle = (low + high) / 2
            if mean_cost(self._quotas(middle), self.costs.fixed) <= budget:
                low = middle
            else:
                high = middle
        best = quotas = self._quotas(low)
        change = self._quotas(high) - quotas
        # Quotas that lose images come first, so that the sum never exceeds the number of images.
        for k in sorted(range(self.num_exits - 1), key=lambda k: change[k]):
            for _ in range(abs(int(change[k]))):
                quotas = quotas.copy()
                quotas[k] += np.sign(change[k])
                quotas[-1] -= np.sign(change[k])
                if mean_cost(best, self.costs.fixed) < mean_cost(quotas, self.costs.fixed) <= budget:
                    best = quotas
        return best, exp(low)

    def _search(self, budget: float) -> tuple[Thresholds, float]:
        # All images leave at the first exit.
        best = float(self.costs.means[0]), SMALLEST_RATIO, np.full(self.num_exits - 1, -inf, dtype=np.float32)

        def within(log_ratio: float) -> bool:
            nonlocal best
            thresholds = geometric_thresholds(self.scores, [exp(log_ratio)], self.order)[0]
            cost = self.costs.mean(first_exits(self.scores, thresholds))
            if best[0] < cost <= budget:
                best = cost, exp(log_ratio), thresholds
            return cost <= budget

        one_image = (self.costs.means[-1] - self.costs.means[0]) / self.num_images
        grid = [self.lowest, *np.linspace(-self.end, self.end, GRID).tolist()]
        holds = [within(x) for x in grid]
        for i in range(GRID):
            low, high = (grid[i], grid[i + 1]) if holds[i] else (grid[i + 1], grid[i])
            # Within the cost of one image is near enough.
            while holds[i] != holds[i + 1] and abs(high - low) > RESOLUTION:
                if best[0] > budget - one_image:
                    break
                middle = (low + high) / 2
                low, high = (middle, high) if within(middle) else (low, middle)
        return best[2], best[1]
