"""The geometric policy that meets a budget."""

from __future__ import annotations

from functools import cached_property
from math import exp, inf, log

import numpy as np
import numpy.typing as npt

from ranet.calibration.policies.exit_policy import first_exits
from ranet.calibration.solvers.geometric import descending, geometric_quotas, geometric_thresholds, quota_thresholds
from ranet.cost.table import ImageCosts, mean_cost

Scores = npt.NDArray[np.float32]
Thresholds = npt.NDArray[np.float32]

GRID = 24
SMALLEST_RATIO = 1e-18  # q_1 rounds to 1 in float64: all images leave at the first exit
RESOLUTION = 1e-13  # of the log ratio; quotas that change within this distance count as changing together


class GeometricSolver:
    """A solver for the ratio whose policy has the largest mean cost within a budget.

    Without ties, exactly the quotas leave, so the mean cost is a step function of the ratio, and bisection finds the
    step at the budget. Where several quotas change at the same ratio, the cost jumps by more than that of one image.
    The quotas are then changed one by one, so that the mean cost is always within (c_K - c_1) / N of the budget.

    With ties, images of equal score leave together, and too few may remain for the next exit's quota; and where the
    network adapts inside, images cost different amounts. In both cases the mean cost of the policies is searched: a
    grid over the ratio finds where it crosses the budget, possibly several times, and bisection narrows each crossing
    to two neighbouring steps.

    Args:
        scores: (K, N) validation scores, higher is surer.
        costs: what the images cost at each exit.
    """

    def __init__(self, scores: Scores, costs: ImageCosts) -> None:
        self.scores = scores
        self.costs = costs
        self.num_exits, self.num_images = scores.shape

    @cached_property
    def order(self) -> npt.NDArray[np.int64]:
        """The images of each exit but the last, surest first."""
        return descending(self.scores)

    def solve(self, budget: float) -> tuple[Thresholds, float]:
        """Return the thresholds within a budget of at least the first exit's cost, and their ratio.

        If the budget is at least the last exit's cost, every image runs to the last exit and the ratio is infinite.
        """
        assert budget >= self.costs.means[0], "nothing costs less than the first exit"
        if budget >= self.costs.means[-1]:
            return np.full(self.num_exits - 1, inf, dtype=np.float32), inf
        if self.costs.added is not None:
            return self._search(budget)
        quotas, ratio = self._solve_quotas(budget)
        thresholds = quota_thresholds(self.scores, quotas[None], self.order)[0]
        left = np.bincount(first_exits(self.scores, thresholds), minlength=self.num_exits)
        if np.array_equal(left, quotas):
            return thresholds, ratio
        return self._search(budget)

    @property
    def _ends(self) -> tuple[float, float]:
        """Log ratios beyond which nothing changes: at 2n every quota but the last is zero."""
        return log(SMALLEST_RATIO), log(2 * self.num_images)

    def _quotas(self, log_ratio: float) -> npt.NDArray[np.int64]:
        """Return (K,) quotas that sum to n: the last exit takes the images that rounding leaves over."""
        quotas = geometric_quotas([exp(log_ratio)], self.num_exits, self.num_images)[0]
        quotas[-1] += self.num_images - quotas.sum()
        return quotas

    def _solve_quotas(self, budget: float) -> tuple[npt.NDArray[np.int64], float]:
        """Return the quotas of largest cost within the budget, near those of a ratio."""
        low, high = self._ends
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
        lowest, end = self._ends
        grid = [lowest, *np.linspace(-end, end, GRID).tolist()]
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
