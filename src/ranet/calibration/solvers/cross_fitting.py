"""Another score or free thresholds only where they beat the papers' rule on images that neither was solved on.

Thresholds that are tuned on the images that judge them win there by fitting their noise. Here each part of the images
judges what was solved on the others (cross-fitting; Chernozhukov et al., "Double/Debiased Machine Learning", The
Econometrics Journal, 2018), image by image, and what departs from the papers' rule is used only if it wins by more than
chance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import inf, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

from ranet.calibration.policies.exit_policy import first_exits
from ranet.calibration.solvers.geometric_solver import GeometricSolver
from ranet.calibration.solvers.optimal import Problem, mean_price

Floats = npt.NDArray[np.float64]
Scores = npt.NDArray[np.float32]
Thresholds = npt.NDArray[np.float32]

WIN = 1.645  # standard errors: one-sided 95 %
NEAR = 15  # budgets at which scores are compared,
WIDTH = 0.25  # of the way from the first exit's cost to the last's: how far around a budget


@dataclass(frozen=True)
class Verdict:
    """Whether a challenger beats what it is to replace on images that neither was solved on.

    Attributes:
        gain: accuracy of the challenger minus that of the other, a difference of cost priced in.
        error: standard error of the gain, paired by image.
    """

    gain: float
    error: float

    @classmethod
    def of(cls, gains: Floats) -> Verdict:
        """The verdict of (N,) gains, one for each image."""
        images = len(gains)
        return cls(float(gains.mean()), float(gains.std(ddof=1)) / sqrt(images) if images > 1 else inf)

    @property
    def accepted(self) -> bool:
        """Whether the gain is more than WIN standard errors."""
        return self.gain > WIN * self.error


class ScoreChoice:
    """The score that the geometric rule is best with near a budget: the first, unless another wins by more than chance.

    A budget alone seldom tells scores apart, so the gain of each image is averaged over budgets around it, the nearer
    the more. This does not fit noise: at each budget the rule has one parameter.

    Args:
        candidates: (K, N) by name, more is surer; the first is kept where none wins.
        correct: (K, N).
        costs: (K,) cumulative.
        folds: in so many parts are the images dealt for cross-fitting.
    """

    def __init__(
        self, candidates: Mapping[str, Scores], correct: npt.NDArray[np.bool_], costs: Floats, folds: int
    ) -> None:
        self.names = list(candidates)
        self.correct = correct
        self.costs = costs
        self.price = mean_price(correct, costs)
        self.budgets = np.linspace(costs[0], costs[-1], NEAR + 2)[1:-1]
        self.gains: dict[tuple[str, int], Floats] = {}
        dealt = deal([*candidates.values(), correct], folds)
        self.fitted = [
            (dealt == fold, {name: GeometricSolver(of[:, dealt != fold], costs) for name, of in candidates.items()})
            for fold in range(folds)
        ]
        self.candidates = candidates

    def near(self, budget: float) -> tuple[str, Verdict | None]:
        """The name of the score, and the verdict by which it replaced the first; None if it is the first."""
        distance = np.abs(self.budgets - min(budget, self.costs[-1])) / (WIDTH * (self.costs[-1] - self.costs[0]))
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

    def _worth(self, name: str, index: int) -> Floats:
        """(N,) what each image brings under the rule on this score, solved on the other folds at one of the budgets."""
        if (name, index) not in self.gains:
            worth = np.empty(self.correct.shape[1])
            for held_out, rules in self.fitted:
                thresholds = rules[name].solve(float(self.budgets[index]))[0]
                scores, correct = self.candidates[name][:, held_out], self.correct[:, held_out]
                worth[held_out] = what_images_bring(thresholds, scores, correct, self.costs, self.price)
            self.gains[name, index] = worth
        return self.gains[name, index]


class OptimalSolver:
    """Free thresholds where they win under cross-fitting, the geometric rule's elsewhere.

    Args:
        scores: (K, N) on validation, more is surer.
        correct: (K, N).
        costs: (K,) cumulative.
        smoothing: see `Problem`.
        folds: in so many parts are the images dealt for cross-fitting; each judges thresholds solved on the others. 0
            accepts without judgement whatever is best on the images that it was solved on.
    """

    def __init__(
        self, scores: Scores, correct: npt.NDArray[np.bool_], costs: Floats, smoothing: float, folds: int
    ) -> None:
        self.problem = Problem(scores, correct, costs, smoothing)
        self.geometric = GeometricSolver(scores, costs)
        self.smoothing = smoothing
        self.folds = folds

    def solve(self, budget: float) -> tuple[Thresholds, dict[str, float | bool]]:
        """The thresholds within a budget of at least the first exit's cost, and what is to be told of them."""
        rule, ratio = self.geometric.solve(budget)
        too_few = self.problem.scores.shape[1] < self.folds
        if too_few or budget >= self.problem.costs[-1]:
            return rule, {"accepted": False, "ratio": ratio}
        free = self.problem.solve(budget)
        if self.folds == 0:
            return free.thresholds, {"accepted": True}
        verdict = self.judge(budget, free.price)
        told: dict[str, float | bool] = {
            "accepted": verdict.accepted,
            "cross_fitted_gain": verdict.gain,
            "cross_fitted_error": verdict.error,
        }
        return (free.thresholds, told) if verdict.accepted else (rule, {**told, "ratio": ratio})

    def judge(self, budget: float, price: float) -> Verdict:
        """Solve both on all folds but one, and compare them on this one, for each fold."""
        gains = []
        for train, rule, held_out in self._fitted:
            free, geometric = train.solve(budget).thresholds, rule.solve(budget)[0]
            gains.append(self._worth(free, held_out, price) - self._worth(geometric, held_out, price))
        return Verdict.of(np.concatenate(gains))

    @cached_property
    def _fitted(self) -> list[tuple[Problem, GeometricSolver, npt.NDArray[np.bool_]]]:
        """For each fold: both solvers on the other folds, and which images it holds."""
        whole = self.problem
        folds = deal([whole.scores, whole.correct], self.folds)
        fitted = []
        for fold in range(self.folds):
            inside = folds != fold
            scores = whole.scores[:, inside]
            train = Problem(scores, whole.correct[:, inside], whole.costs, self.smoothing)
            fitted.append((train, GeometricSolver(scores, whole.costs), ~inside))
        return fitted

    def _worth(self, thresholds: Thresholds, images: npt.NDArray[np.bool_], price: float) -> Floats:
        whole = self.problem
        return what_images_bring(thresholds, whole.scores[:, images], whole.correct[:, images], whole.costs, price)


def what_images_bring(
    thresholds: Thresholds, scores: Scores, correct: npt.NDArray[np.bool_], costs: Floats, price: float
) -> Floats:
    """(N,) right or wrong, minus the price of the cost, of each image under these thresholds."""
    exits = first_exits(scores, thresholds)
    worth: Floats = correct[exits, np.arange(len(exits))] - price * costs[exits]
    return worth


def deal(about: Sequence[npt.NDArray[Any]], folds: int) -> npt.NDArray[np.int64]:
    """Deal the images out into folds that are alike and do not depend on the order of the images.

    The images are put in the order of a fixed mixture of all that is known of them, and dealt out one by one. Images
    of the same mixture are the same images.

    Args:
        about: arrays (K, N).
        folds: how many.

    Returns:
        (N,) the fold of each image.

    Example:
        >>> deal([np.float32([[0.4, 0.1, 0.3, 0.2]])], folds=2)
        array([1, 0, 0, 1])
    """
    rows = [row for array in about for row in array]
    mixture = np.zeros(about[0].shape[1])
    for row, weight in zip(rows, np.random.default_rng(0).uniform(1, 2, size=len(rows)).tolist(), strict=True):
        mixture += row * weight
    dealt = np.empty(len(mixture), dtype=np.int64)
    dealt[np.argsort(mixture, kind="stable")] = np.arange(len(mixture)) % folds
    return dealt
