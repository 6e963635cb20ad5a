"""The families of policies: how each finds the thresholds for a budget."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping
from math import inf
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ranet.calibration.goals import CANDIDATES, score_of
from ranet.calibration.policies.exit_policy import first_exits
from ranet.calibration.scores.exit_scores import ExitScores
from ranet.calibration.solvers.cross_fitting import OptimalSolver, ScoreChoice
from ranet.calibration.solvers.geometric import GeometricSolver
from ranet.cost.table import ImageCosts
from ranet.errors import UserError

SMOOTHING = 0.02
FOLDS = 2


class OneThresholdSolver:
    """A solver for the common threshold whose mean cost is the largest within a budget.

    An image has left by exit k if the largest of its first k scores reaches the threshold t. So the mean cost is c_1 +
    sum_k (c_{k+1} - c_k) F_k(t), where F_k is the share of the images whose largest score up to exit k is below t. It
    rises with t, in steps at these scores. (Teerapittayanon et al., "BranchyNet", ICPR 2016, with the entropy.)
    """

    def __init__(self, scores: npt.NDArray[np.float32], costs: ImageCosts) -> None:
        self.scores = scores
        self.costs = costs
        self.candidates = np.unique(np.maximum.accumulate(scores[:-1], axis=0)).tolist()

    def cost(self, threshold: float) -> float:
        """Return the mean cost under a threshold."""
        return self.costs.mean(first_exits(self.scores, [threshold] * (len(self.scores) - 1)))

    def solve(self, budget: float) -> tuple[npt.NDArray[np.float32], float]:
        """Return K - 1 equal thresholds within a budget of at least the first exit's cost, and their value."""
        assert budget >= self.costs.means[0], "nothing costs less than the first exit"
        threshold = inf
        if budget < self.costs.means[-1]:
            # At the smallest score or below, all images leave at the first exit.
            threshold = self.candidates[max(bisect_right(self.candidates, budget, key=self.cost) - 1, 0)]
        return np.full(len(self.scores) - 1, threshold, dtype=np.float32), threshold


class Solution(NamedTuple):
    """The name of the score to compare, (K - 1,) thresholds for a budget, and results for the policy's metadata."""

    score: str
    thresholds: npt.NDArray[np.float32]
    parameters: Mapping[str, Any]


Solve = Callable[[float], Solution]


class Family:
    """A family of policies with its options; see `ranet.calibrate`.

    Raises:
        UserError: if the family or the score is unknown, or an option is out of its range.
    """

    def __init__(self, name: str, score: str | None = None, smoothing: float = SMOOTHING, folds: int = FOLDS) -> None:
        self.name = name
        self.score = score_of(name, score)
        self.by_choice = score is None
        if not (0 <= smoothing <= 1 and folds != 1 and folds >= 0 and folds == int(folds)):
            raise UserError(
                f"smoothing={smoothing} must be in [0, 1], and folds={folds} 0 or an integer of at least 2."
            )
        self.smoothing, self.folds = smoothing, int(folds)

    def solver(self, scores: ExitScores, costs: ImageCosts) -> Solve:
        """Return the function that solves a budget on these scores and costs; work that budgets share is done once."""
        if self.name == "optimal":
            return self._optimal(scores, costs)
        compared = scores.score(self.score)
        name, solver = (
            ("threshold", OneThresholdSolver(compared, costs))
            if self.name in ("one_threshold", "patience")
            else ("ratio", GeometricSolver(compared, costs))
        )

        def solve(budget: float) -> Solution:
            thresholds, value = solver.solve(budget)
            return Solution(self.score, thresholds, {name: value})

        return solve

    def _optimal(self, scores: ExitScores, costs: ImageCosts) -> Solve:
        solvers: dict[str, OptimalSolver] = {}
        choice = None
        if self.by_choice and min(self.folds, scores.num_images) > 1 and scores.num_exits > 1:
            candidates = {name: scores.score(name) for name in CANDIDATES if scores.has(name)}
            choice = ScoreChoice(candidates, scores.correct, costs, min(self.folds, scores.num_images))

        def solve(budget: float) -> Solution:
            name, verdict = (self.score, None) if choice is None else choice.near(budget)
            if name not in solvers:
                solvers[name] = OptimalSolver(scores.score(name), scores.correct, costs, self.smoothing, self.folds)
            thresholds, told = solvers[name].solve(budget)
            because = {} if verdict is None else {"score_gain": verdict.gain, "score_gain_error": verdict.error}
            return Solution(name, thresholds, {**told, **because})

        return solve
