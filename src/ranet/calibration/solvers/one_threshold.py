"""Policies of one threshold for all exits."""

from __future__ import annotations

from math import inf

import numpy as np
import numpy.typing as npt

from ranet.calibration.policies.exit_policy import first_exits
from ranet.cost.table import ImageCosts, mean_cost

Scores = npt.NDArray[np.float32]


class OneThresholdSolver:
    """A solver for the common threshold whose mean cost is the largest within a budget.

    An image has left by exit k if the largest of its first k scores reaches the threshold t. So the mean cost is
    c_1 + sum_k (c_{k+1} - c_k) F_k(t), where F_k is the share of the images whose largest score up to exit k is below
    t. It rises with t, in steps at these scores. (Teerapittayanon et al., "BranchyNet", ICPR 2016, with the entropy.)

    Args:
        scores: (K, N) validation scores, higher is surer.
        costs: what the images cost at each exit; an image that leaves later never costs less.
    """

    def __init__(self, scores: Scores, costs: ImageCosts) -> None:
        self.scores = scores
        self.costs = costs
        self.largest = np.sort(np.maximum.accumulate(scores[:-1], axis=0), axis=1)
        self.candidates = np.unique(self.largest)

    def cost(self, threshold: float) -> float:
        """Return the mean cost under a threshold."""
        if self.costs.added is not None:
            return self.costs.mean(first_exits(self.scores, [threshold] * len(self.largest)))
        below = [int(np.searchsorted(largest, np.float32(threshold))) for largest in self.largest]
        return float(mean_cost(-np.diff([self.scores.shape[1], *below, 0]), self.costs.fixed))

    def solve(self, budget: float) -> tuple[npt.NDArray[np.float32], float]:
        """Return K - 1 equal thresholds within a budget of at least the first exit's cost, and their value."""
        assert budget >= self.costs.means[0], "nothing costs less than the first exit"
        low, high = -1, len(self.candidates)
        if budget >= self.costs.means[-1]:
            low = high
        while high - low > 1:
            middle = (low + high) // 2
            if self.cost(float(self.candidates[middle])) <= budget:
                low = middle
            else:
                high = middle
        # At the smallest score or below, all images leave at the first exit.
        threshold = inf if low == len(self.candidates) else float(self.candidates[max(low, 0)])
        return np.full(len(self.scores) - 1, threshold, dtype=np.float32), threshold
