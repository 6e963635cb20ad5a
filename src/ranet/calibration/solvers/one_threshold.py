"""Policies of one threshold for all exits."""

from __future__ import annotations

from math import inf

import numpy as np
import numpy.typing as npt

from ranet.calibration.policies.outcome import mean_cost

Floats = npt.NDArray[np.float64]
Scores = npt.NDArray[np.float32]


class OneThresholdSolver:
    """A solver for the common threshold whose mean cost is the largest within a budget.

    An image has left by exit k if the largest of its first k scores reaches the threshold t. So the mean cost is
    c_1 + sum_k (c_{k+1} - c_k) F_k(t), where F_k is the share of the images whose largest score up to exit k is below
    t. It rises with t, in steps at these scores. (Teerapittayanon et al., "BranchyNet", ICPR 2016, with the entropy.)

    Args:
        scores: (K, N) validation scores, higher is surer.
        costs: (K,) cumulative costs.
    """

    def __init__(self, scores: Scores, costs: Floats) -> None:
        self.num_exits, self.num_images = scores.shape
        self.costs = costs
        self.largest = np.sort(np.maximum.accumulate(scores[:-1], axis=0), axis=1)
        self.candidates = np.unique(self.largest)

    def left(self, threshold: float) -> npt.NDArray[np.int64]:
        """Return (K,) how many images leave at each exit."""
        below = [int(np.searchsorted(largest, np.float32(threshold))) for largest in self.largest]
        return -np.diff([self.num_images, *below, 0])

    def solve(self, budget: float) -> tuple[npt.NDArray[np.float32], float]:
        """Return K - 1 equal thresholds within a budget of at least the first exit's cost, and their value."""
        assert budget >= self.costs[0], "nothing costs less than the first exit"
        low, high = -1, len(self.candidates)
        if budget >= self.costs[-1]:
            low = high
        while high - low > 1:
            middle = (low + high) // 2
            if mean_cost(self.left(self.candidates[middle]), self.costs) <= budget:
                low = middle
            else:
                high = middle
        # At the smallest score or below, all images leave at the first exit.
        threshold = inf if low == len(self.candidates) else float(self.candidates[max(low, 0)])
        return np.full(self.num_exits - 1, threshold, dtype=np.float32), threshold
