"""The families of policies: how each finds the thresholds for a budget."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ranet.calibration.goals import CANDIDATES, score_of
from ranet.calibration.scores.exit_scores import ExitScores
from ranet.calibration.solvers.cross_fitting import OptimalSolver, ScoreChoice
from ranet.calibration.solvers.geometric_solver import GeometricSolver
from ranet.calibration.solvers.one_threshold import OneThresholdSolver
from ranet.cost.table import ImageCosts
from ranet.errors import UserError

SMOOTHING = 0.02
FOLDS = 2


class Solution(NamedTuple):
    """The thresholds for a budget.

    Attributes:
        score: name of the score to compare.
        thresholds: (K - 1,).
        parameters: results of the solver, for the metadata of the policy.
    """

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
