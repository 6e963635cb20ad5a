"""The choice of the exits that a policy uses, if each cut costs time."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from math import inf
from typing import Any

import numpy as np
import numpy.typing as npt

from ranet.calibration.scores.exit_scores import ExitScores
from ranet.calibration.solvers.cross_fitting import Verdict
from ranet.calibration.solvers.exit_sets import Exits, ExitSetJudge
from ranet.calibration.solvers.families import Family, Solution
from ranet.cost.table import CostTable, ImageCosts
from ranet.errors import UserError

OF_EXITS = ("confidence", "margin", "entropy", "prediction", "correct_top5", "correct", "executed")


class ExitChoice:
    """Chooses for each budget the exits to use, and solves a family of policies on them.

    Every used exit costs a cut and a head, and costs more if more images pass. So the exits are chosen for each budget
    (`ExitSetJudge`), under the geometric rule on the family's score. Then the family is solved on these exits. Exits
    that this solution does not use, such as those with a quota of 0 images, are dropped, and the saved cost is spent.

    Args:
        scores: scores of validation images. Without labels, the exits are chosen by how often the policy gives the
            answer of the last exit.
        table: costs of all fused stages.
        costs_with: gives what images cost where some exits are used.
        family: the family; "patience" counts exits in a row, so it uses all of them.

    Raises:
        UserError: if the scores have neither labels nor predictions.
    """

    def __init__(
        self, scores: ExitScores, table: CostTable, costs_with: Callable[[Exits], ImageCosts], family: Family
    ) -> None:
        self.everything = tuple(range(scores.num_exits))
        self.judge = None
        if family.score != "patience":
            added = costs_with(self.everything).added
            self.judge = ExitSetJudge(scores.score(family.score), _right(scores), table, added)
        self.solver = cache(lambda exits: family.solver(restricted(scores, exits), costs_with(exits).of_exits(exits)))

    def solve(self, budget: float) -> tuple[Exits, Solution, Verdict | None]:
        """Return the exits to use within a budget, the thresholds of all K exits, and the verdict on the exits."""
        if self.judge is None:
            return self.everything, self.solver(self.everything)(budget), None
        exits, verdict = self.judge.choose(budget)
        while True:
            found = self.solver(exits)(budget)
            pairs = zip(exits, found.thresholds, strict=False)
            fewer = (*(k for k, threshold in pairs if threshold < inf), exits[-1])
            if fewer == exits:
                return exits, self._of_all_exits(exits, found), verdict
            exits = fewer

    def _of_all_exits(self, exits: Exits, found: Solution) -> Solution:
        thresholds = np.full(len(self.everything) - 1, inf, dtype=np.float32)
        thresholds[list(exits[:-1])] = found.thresholds
        return found._replace(thresholds=thresholds)


def parameters_of(exits: Exits, found: Solution, verdict: Verdict | None) -> dict[str, Any]:
    """Return what the metadata of a policy say of its exits: those that it uses, and why."""
    looks = found.score == "patience"
    used = [k for k in exits if looks or k == exits[-1] or found.thresholds[k] < inf]
    # After an exit at which all images leave, no exit is used.
    used = [k for k in used if not (found.thresholds[:k] == -inf).any()]
    because = {} if verdict is None else {"exits_gain": verdict.gain, "exits_gain_error": verdict.error}
    return {**found.parameters, "used_exits": used, **because}


def restricted(scores: ExitScores, exits: Exits) -> ExitScores:
    """Return the scores of some exits, as if the network had no others; without logits.

    Example:
        >>> restricted(ExitScores([[0.5, 0.5], [0.6, 0.7], [0.8, 0.9]]), (0, 2)).confidence.tolist()
        [[0.5, 0.5], [0.800000011920929, 0.8999999761581421]]
    """
    at = list(exits)
    of_exits: Any = {name: getattr(scores, name)[at] for name in OF_EXITS if scores.has(name)}
    temperatures = None if scores.temperatures is None else scores.temperatures[at]
    return ExitScores(**of_exits, labels=scores.labels if scores.has("labels") else None, temperatures=temperatures)


def _right(scores: ExitScores) -> npt.NDArray[np.bool_]:
    """Return (K, N) whether the answer is right, or without labels, whether it is that of the last exit."""
    if scores.has("correct"):
        return scores.correct
    if not scores.has("prediction"):
        raise UserError(
            "The choice of exits needs labels or predictions, and these scores have neither: add one of them."
        )
    agrees: npt.NDArray[np.bool_] = scores.prediction == scores.prediction[-1]
    return agrees
