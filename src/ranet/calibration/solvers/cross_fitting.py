"""Cross-fitting: another score or free thresholds are used only if they beat the papers' rule on held-out images.

Thresholds that are judged on the images that they were tuned on win by fitting the noise. Here each fold judges what
was solved on the other folds, paired by image (cross-fitting; Chernozhukov et al., "Double/Debiased Machine Learning",
The Econometrics Journal, 2018). A challenger replaces the papers' rule only if it wins by more than chance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from math import inf, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

from ranet.calibration.policies.exit_policy import first_exits
from ranet.calibration.solvers.geometric import GeometricSolver
from ranet.calibration.solvers.optimal import Problem, mean_price
from ranet.cost.table import ImageCosts

Floats = npt.NDArray[np.float64]
Scores = npt.NDArray[np.float32]
Thresholds = npt.NDArray[np.float32]

WIN = 1.645  # standard errors: one-sided 95 %
NEAR = 15  # number of budgets at which scores are compared
WIDTH = 0.25  # how far around a budget, as a fraction of the range from the first exit's cost to the last's


@dataclass(frozen=True)
class Verdict:
    """The comparison of a challenger with what it may replace, on images that neither was solved on.

    Attributes:
        gain: accuracy of the challenger minus that of the other, minus the price of the difference in cost.
        error: standard error of the gain, paired by image.
    """

    gain: float
    error: float

    @classmethod
    def of(cls, gains: Floats) -> Verdict:
        """Return the verdict of (N,) gains, one for each image."""
        images = len(gains)
        return cls(float(gains.mean()), float(gains.std(ddof=1)) / sqrt(images) if images > 1 else inf)

    @property
    def accepted(self) -> bool:
        """Whether the gain is more than WIN standard errors."""
        return self.gain > WIN * self.error


class ScoreChoice:
    """The best score for the geometric rule near a budget: the first, unless another wins by more than chance.

    One budget rarely distinguishes scores. So the gain of each image is averaged over the budgets around it, with more
    weight for nearer ones. This does not fit noise: at each budget the rule has one parameter.

    Args:
        candidates: (K, N) scores by name, higher is surer; the first is kept if none wins.
        correct: (K, N) whether the prediction is right.
        costs: what the images cost at each exit.
        folds: number of cross-fitting folds.
    """

    def __init__(
        self, candidates: Mapping[str, Scores], correct: npt.NDArray[np.bool_], costs: ImageCosts, folds: int
    ) -> None:
        self.names = list(candidates)
        self.correct = correct
        self.costs = costs
        self.price = mean_price(correct, costs.means)
        self.cheapest, self.dearest = costs.means[[0, -1]].tolist()
        self.budgets = np.linspace(self.cheapest, self.dearest, NEAR + 2)[1:-1]
        self._worth = cache(self._worth_near)
        dealt = deal([*candidates.values(), correct], folds)
        self.candidates = candidates
        self.fitted = []
        for fold in range(folds):
            inside = dealt != fold
            rules = {name: GeometricSolver(of[:, inside], costs.part(inside)) for name, of in candidates.items()}
            self.fitted.append((~inside, rules))

    def near(self, budget: float) -> tuple[str, Verdict | None]:
        """Return the name of the best score, and its verdict against the first; None if it is the first."""
        distance = np.abs(self.budgets - min(budget, self.dearest)) / (WIDTH * (self.dearest - self.cheapest))
        weights = np.maximum(1 - distance, 0)
        weights /= weights.sum()
        first, winners = self.names[0], {}
        for name in self.names[1:]:
            gains = np.zeros(self.correct.shape[1])
            for i in np.flatnonzero(weights).tolist():
                gains += weights[i] * (self._worth(name, i) - self._worth(first, i))
            verdict = Verdict.of(gains)
            if verdict.accepted:
                winners[name] = verdict
        if not winners:
            return first, None
        best = max(winners, key=lambda name: winners[name].gain)
        return best, winners[best]

    def _worth_near(self, name: str, index: int) -> Floats:
        """Return (N,) `what_images_bring` under the rule on this score, solved on the other folds for a budget."""
        worth = np.empty(self.correct.shape[1])
        for held_out, rules in self.fitted:
            thresholds = rules[name].solve(max(float(self.budgets[index]), rules[name].costs.means[0]))[0]
            scores, correct = self.candidates[name][:, held_out], self.correct[:, held_out]
            costs = self.costs.part(held_out)
            worth[held_out] = what_images_bring(thresholds, scores, correct, costs, self.price)
        return worth


class OptimalSolver:
    """A solver that uses free thresholds (`Problem`) if they win under cross-fitting, else the geometric rule.

    Each fold judges thresholds solved on the others; 0 folds accept the free thresholds without cross-fitting.
    """

    def __init__(
        self, scores: Scores, correct: npt.NDArray[np.bool_], costs: ImageCosts, smoothing: float, folds: int
    ) -> None:
        self.problem = Problem(scores, correct, costs, smoothing)
        self.geometric = GeometricSolver(scores, costs)
        self.smoothing = smoothing
        self.folds = folds

    def solve(self, budget: float) -> tuple[Thresholds, dict[str, float | bool]]:
        """Return the thresholds within a budget of at least the first exit's cost, and results for the metadata."""
        rule, ratio = self.geometric.solve(budget)
        too_few = self.problem.scores.shape[1] < self.folds
        if too_few or budget >= self.problem.costs.means[-1]:
            return rule, {"accepted": False, "ratio": ratio}
        free = self.problem.solve(budget)
        if self.folds == 0:
            return free.thresholds, {"accepted": True}
        verdict = self.judge(budget, free.price)
        accepted = verdict.accepted
        told = {"accepted": accepted, "cross_fitted_gain": verdict.gain, "cross_fitted_error": verdict.error}
        return (free.thresholds, told) if accepted else (rule, {**told, "ratio": ratio})

    def judge(self, budget: float, price: float) -> Verdict:
        """Compare free thresholds with the geometric rule on each fold, both solved on the other folds."""
        gains = []
        for train, rule, held_out in self._fitted:
            # The other images can cost more at the first exit, where the network adapts inside.
            possible = max(budget, float(rule.costs.means[0]))
            free, geometric = train.solve(possible).thresholds, rule.solve(possible)[0]
            gains.append(self._worth(free, held_out, price) - self._worth(geometric, held_out, price))
        return Verdict.of(np.concatenate(gains))

    @cached_property
    def _fitted(self) -> list[tuple[Problem, GeometricSolver, npt.NDArray[np.bool_]]]:
        """Both solvers on the other folds, and the mask of the fold's images, for each fold."""
        whole, fitted = self.problem, []
        dealt = deal([whole.scores, whole.correct], self.folds)
        for fold in range(self.folds):
            inside = dealt != fold
            scores, costs = whole.scores[:, inside], whole.costs.part(inside)
            train = Problem(scores, whole.correct[:, inside], costs, self.smoothing)
            fitted.append((train, GeometricSolver(scores, costs), ~inside))
        return fitted

    def _worth(self, thresholds: Thresholds, images: npt.NDArray[np.bool_], price: float) -> Floats:
        whole, costs = self.problem, self.problem.costs.part(images)
        return what_images_bring(thresholds, whole.scores[:, images], whole.correct[:, images], costs, price)


def what_images_bring(
    thresholds: Thresholds, scores: Scores, correct: npt.NDArray[np.bool_], costs: ImageCosts, price: float
) -> Floats:
    """Return (N,) for each image 1 if right, else 0, minus the price of its cost, under these thresholds."""
    exits = first_exits(scores, thresholds)
    worth: Floats = correct[exits, np.arange(len(exits))] - price * costs.at(exits)
    return worth


def deal(about: Sequence[npt.NDArray[Any]], folds: int) -> npt.NDArray[np.int64]:
    """Return (N,) the folds of the images: similar folds that do not depend on the order of the images.

    The images are sorted by a fixed weighted sum of all their values ``about`` them, (K, N) arrays, and dealt to the
    folds in turn. Images with equal sums are treated as the same.
    """
    rows = [row for array in about for row in array]
    mixture = np.zeros(about[0].shape[1])
    for row, weight in zip(rows, np.random.default_rng(0).uniform(1, 2, size=len(rows)).tolist(), strict=True):
        mixture += row * weight
    dealt = np.empty(len(mixture), dtype=np.int64)
    dealt[np.argsort(mixture, kind="stable")] = np.arange(len(mixture)) % folds
    return dealt
