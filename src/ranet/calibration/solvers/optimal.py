"""Thresholds that maximise accuracy within a budget, one free threshold for each exit.

The papers' geometric rule sends a share of the images even to an exit that is no better than the one before. Free
thresholds do not, but they also fit the noise of the images that they are solved on. Hence three precautions: accuracy
is smoothed along each threshold, the budget is met along a path of few candidates, and the result is accepted only if
it beats the geometric rule on images that it was not solved on (`cross_fitting`).

Method: Lagrangian relaxation (Everett, "Generalized Lagrange Multiplier Method for Solving Problems of Optimum
Allocation of Resources", Operations Research, 1963). At a given price of cost, accuracy minus price times cost is
raised one threshold at a time, from the last exit to the first. With the other thresholds fixed, an image that reaches
an exit gains a known amount by leaving there; the best threshold is where the running sum of these gains, in the order
of the score, is largest. Falling prices give a path from all images leaving at the first exit to all at the last. A
budget lies between two points of the path, and is met between them.
"""

from __future__ import annotations

from functools import cached_property
from itertools import product
from math import inf
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ranet.calibration.policies.exit_policy import first_exits
from ranet.calibration.solvers.geometric import descending
from ranet.cost.table import ImageCosts

Floats = npt.NDArray[np.float64]
Scores = npt.NDArray[np.float32]
Thresholds = npt.NDArray[np.float32]

PRICES = 20
SWEEPS = 3
ENUMERATED = 200_000  # combinations of thresholds times images: a tenth of a second


def running_mean(values: Floats, width: int) -> Floats:
    """Return the mean of each value and its neighbours, ``width`` in all; near both ends the window is narrower."""
    half, last = width // 2, len(values) - 1
    if half == 0 or last < 2:
        return values
    total = np.concatenate([[0.0], np.cumsum(values)])
    place = np.arange(last + 1)
    reach = np.minimum(half, np.minimum(place, last - place))
    means: Floats = (total[place + reach + 1] - total[place - reach]) / (2 * reach + 1)
    return means


def mean_price(correct: npt.NDArray[np.bool_], costs: Floats) -> float:
    """Return the accuracy gained per unit of cost from the first exit to the last, at least 0."""
    gain = float(correct[-1].mean() - correct[0].mean())
    return max(0.0, gain / float(costs[-1] - costs[0])) if len(costs) > 1 else 0.0


class PathPoint(NamedTuple):
    """Thresholds (K - 1,), their mean cost, and the accuracy that one unit of cost must gain there."""

    cost: float
    price: float
    thresholds: Thresholds


class Problem:
    """The problem of the thresholds with the highest accuracy within a budget.

    Scores (K, N) are higher where surer, and ``correct`` (K, N) is whether the prediction is right. Accuracy is
    averaged over a fraction ``smoothing`` of the images along each threshold.
    """

    def __init__(self, scores: Scores, correct: npt.NDArray[np.bool_], costs: ImageCosts, smoothing: float) -> None:
        self.scores = scores
        self.correct = correct
        self.costs = costs
        self.window = round(smoothing * scores.shape[1])
        self.order = descending(scores)
        #: (K - 1, N), the scores in that order, negated: ascending.
        self.ranked: Scores = -np.take_along_axis(scores[:-1], self.order, axis=1)

    def outcome(self, thresholds: Thresholds) -> tuple[float, float]:
        """Return accuracy and mean cost."""
        exits = first_exits(self.scores, thresholds)
        return float(self.correct[exits, np.arange(len(exits))].mean()), self.costs.mean(exits)

    @cached_property
    def path(self) -> list[PathPoint]:
        """Candidates from all images leaving at the first exit to all at the last, cheapest first."""
        means = self.costs.means
        steps = np.diff(means)
        all_stay = np.full(len(steps), inf, dtype=np.float32)
        points = [PathPoint(float(means[-1]), 0.0, all_stay)]
        if len(steps):
            thresholds = all_stay
            for price in np.geomspace(1e-3 / steps.sum(), 2 / steps.min(), PRICES).tolist():
                thresholds = self.ascend(thresholds, price)
                points.append(PathPoint(self.outcome(thresholds)[1], price, thresholds))
            points.append(PathPoint(float(means[0]), inf, -all_stay))
        return sorted(points, key=lambda point: point.cost)

    def ascend(self, thresholds: Thresholds, price: float) -> Thresholds:
        """Raise accuracy - price * mean cost one threshold at a time, until no threshold moves or after SWEEPS."""
        thresholds = thresholds.copy()
        worth = self.correct - price * self.costs.all
        for _ in range(SWEEPS):
            before = thresholds.copy()
            reach = [np.ones(self.scores.shape[1], dtype=bool)]
            for k in range(len(thresholds) - 1):
                reach.append(reach[k] & (self.scores[k] < thresholds[k]))
            later = worth[-1]
            for k in reversed(range(len(thresholds))):
                candidates = self.order[k][reach[k].take(self.order[k])]
                thresholds[k] = self._best_cut(k, candidates, (worth[k] - later).take(candidates))
                later = np.where(self.scores[k] >= thresholds[k], worth[k], later)
            if np.array_equal(before, thresholds):
                break
        return thresholds

    def _best_cut(self, exit: int, candidates: npt.NDArray[np.int64], gains: Floats) -> float:
        """Return the threshold at which the leaving images gain most; infinite if no threshold gains.

        The candidates (n,) are the images that reach the exit, surest first; they gain ``gains`` (n,) by leaving.
        """
        scores = self.scores[exit].take(candidates)
        if not len(scores):
            return inf
        # Images with equal scores leave together: they share their gain, and the cut is not between them.
        cuts = np.flatnonzero(np.append(scores[1:] != scores[:-1], True))
        if len(cuts) < len(scores):
            sizes = np.diff(cuts, prepend=-1)
            gains = np.repeat(np.add.reduceat(gains, cuts - sizes + 1) / sizes, sizes)
        # Rounded, so that the order of a sum does not matter.
        sums = np.cumsum(running_mean(gains, self.window))[cuts].round(9)
        best = int(sums.argmax())
        return float(scores[cuts[best]]) if sums[best] > 0 else inf

    def solve(self, budget: float) -> PathPoint:
        """Return the best thresholds found with a mean cost within the budget, which is at least the first exit's cost.

        Small problems without smoothing are enumerated. Otherwise the budget is met on the path, or between two of its
        points by moving all thresholds together from one to the other, in ranks.
        """
        exits, images = self.scores.shape
        if self.window < 2 and (images + 1) ** (exits - 1) * images <= ENUMERATED:
            return self._enumerate(budget)
        cheap = [point for point in self.path if point.cost <= budget][-1]
        dear = next((point for point in self.path if point.cost > budget), None)
        return cheap if dear is None else self._between(cheap, dear, budget)

    def _between(self, cheap: PathPoint, dear: PathPoint, budget: float) -> PathPoint:
        start, end = self._ranks(cheap.thresholds), self._ranks(dear.thresholds)
        best, best_cost = cheap.thresholds, cheap.cost
        low, high = 0.0, 1.0
        # Bisection until the ranks no longer move.
        while (high - low) * np.abs(end - start).max(initial=0) >= 0.5:
            middle = (low + high) / 2
            ranks = np.rint(start + middle * (end - start)).astype(np.int64)
            at = np.array([inf if r == 0 else -self.ranked[k, r - 1] for k, r in enumerate(ranks)], dtype=np.float32)
            cost = self.outcome(at)[1]
            if cost <= budget:
                low = middle
                if cost >= best_cost:
                    best, best_cost = at, cost
            else:
                high = middle
        return PathPoint(best_cost, dear.price, best)

    def _ranks(self, thresholds: Thresholds) -> npt.NDArray[np.int64]:
        """Return (K - 1,) how many of all images reach each threshold."""
        pairs = zip(self.ranked, thresholds, strict=True)
        return np.array([np.searchsorted(ranked, -at, side="right") for ranked, at in pairs], dtype=np.int64)

    @cached_property
    def combinations(self) -> tuple[Thresholds, Floats, Floats]:
        """All combinations of thresholds, (R, K - 1), with their accuracies and mean costs, (R,)."""
        choices = [np.concatenate([np.unique(scores), [np.float32(inf)]]) for scores in self.scores[:-1]]
        thresholds = np.array(list(product(*choices)), dtype=np.float32).reshape(-1, len(choices))
        outcomes = np.array([self.outcome(at) for at in thresholds])
        return thresholds, outcomes[:, 0], outcomes[:, 1]

    def _enumerate(self, budget: float) -> PathPoint:
        """Return the best of all combinations of thresholds; of equals, the cheapest."""
        thresholds, accuracy, cost = self.combinations
        within = np.flatnonzero(cost <= budget)
        best = within[np.lexsort((cost[within], -accuracy[within]))[0]]
        return PathPoint(float(cost[best]), mean_price(self.correct, self.costs.means), thresholds[best])
