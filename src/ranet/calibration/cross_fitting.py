"""Free thresholds only where they beat the geometric rule on images that neither was solved on.

Thresholds that are tuned on the images that judge them win there by fitting their noise. Here each part of the images
judges what was solved on the others (cross-fitting; Chernozhukov et al., "Double/Debiased Machine Learning", The
Econometrics Journal, 2018), image by image, and free thresholds are used only if they win by more than chance.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import inf, sqrt

import numpy as np
import numpy.typing as npt

from ranet.calibration.geometric_solver import GeometricSolver
from ranet.calibration.optimal import Problem
from ranet.calibration.policies import first_exits

Floats = npt.NDArray[np.float64]
Scores = npt.NDArray[np.float32]
Thresholds = npt.NDArray[np.float32]

WIN = 1.645  # standard errors: one-sided 95 %


@dataclass(frozen=True)
class Verdict:
    """Whether free thresholds beat the geometric rule on images that neither was solved on.

    Attributes:
        gain: accuracy of the free thresholds minus that of the geometric rule, a difference of cost priced in.
        error: standard error of the gain, paired by image.
        accepted: whether the gain is more than WIN standard errors.
    """

    gain: float
    error: float

    @property
    def accepted(self) -> bool:
        """Whether the free thresholds are to be used."""
        return self.gain > WIN * self.error


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
        self.folds = min(folds, scores.shape[1])

    def solve(self, budget: float) -> tuple[Thresholds, dict[str, float | bool]]:
        """The thresholds within a budget of at least the first exit's cost, and what is to be told of them."""
        rule, ratio = self.geometric.solve(budget)
        if budget >= self.problem.costs[-1]:
            return rule, {"accepted": False, "ratio": ratio}
        free = self.problem.solve(budget)
        if self.folds < 2:
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
        gain = np.concatenate(gains)
        return Verdict(float(gain.mean()), float(gain.std(ddof=1)) / sqrt(len(gain)) if len(gain) > 1 else inf)

    @cached_property
    def _fitted(self) -> list[tuple[Problem, GeometricSolver, npt.NDArray[np.bool_]]]:
        """For each fold: both solvers on the other folds, and which images it holds."""
        whole = self.problem
        folds = deal(whole.scores, self.folds)
        fitted = []
        for fold in range(self.folds):
            inside = folds != fold
            scores = whole.scores[:, inside]
            train = Problem(scores, whole.correct[:, inside], whole.costs, self.smoothing)
            fitted.append((train, GeometricSolver(scores, whole.costs), ~inside))
        return fitted

    def _worth(self, thresholds: Thresholds, images: npt.NDArray[np.bool_], price: float) -> Floats:
        """(n,) what each image brings: right or wrong, minus the price of its cost."""
        exits = first_exits(self.problem.scores[:, images], thresholds)
        correct = self.problem.correct[:, images][exits, np.arange(len(exits))]
        worth: Floats = correct - price * self.problem.costs[exits]
        return worth


def deal(scores: Scores, folds: int) -> npt.NDArray[np.int64]:
    """Deal the images out into folds that are alike and do not depend on the order of the images.

    The images are put in the order of a fixed mixture of their scores, and dealt out one by one.

    Args:
        scores: (K, N).
        folds: how many.

    Returns:
        (N,) the fold of each image.

    Example:
        >>> deal(np.float32([[0.4, 0.1, 0.3, 0.2]]), folds=2)
        array([1, 0, 0, 1])
    """
    mixture = np.zeros(scores.shape[1])
    for k, of_exit in enumerate(scores):
        mixture += of_exit * sqrt(k + 2)
    dealt = np.empty(len(mixture), dtype=np.int64)
    dealt[np.argsort(mixture, kind="stable")] = np.arange(len(mixture)) % folds
    return dealt
