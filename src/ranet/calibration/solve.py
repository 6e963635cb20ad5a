"""From a goal to the policies that meet it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ranet.calibration.goals import Budget, Deadline, Goal
from ranet.calibration.guarantees.risk import calibrate_risk, check_guarantee
from ranet.calibration.policies.outcome import Costs
from ranet.calibration.scores.exit_scores import ExitScores
from ranet.calibration.solvers.budget import calibrate_each, check_budgets
from ranet.calibration.solvers.calibration import Calibration
from ranet.calibration.solvers.deadline import exit_for_deadline

Floats = npt.NDArray[np.float64]


def check_goal(goal: Goal, alone: Floats, all_exits: Floats, unit: str, images: int) -> None:
    """Refuse, before so many images are scored, a goal that no scores can meet.

    ``alone`` (K,) is the cost of each exit as the only one that is used, ``all_exits`` (K,) the cumulative one.
    """
    if isinstance(goal, Budget):
        # Patience counts exits, and so uses them all.
        check_budgets(goal.values(alone), all_exits if goal.family == "patience" else alone, unit)
    elif isinstance(goal, Deadline):
        exit_for_deadline(alone, goal.milliseconds)
    else:
        check_guarantee(goal.eps, goal.delta, images, risk=goal.of, bound=goal.bound)


def solve_goal(
    goal: Goal, scores: ExitScores, costs: Costs, alone: Floats, unit: str, metadata: Mapping[str, Any]
) -> list[Calibration]:
    """Return the policies that meet a goal: one for each budget, else one.

    ``costs`` are what the exits cost, and a `CostTable` lets a budget choose the exits to use; ``alone`` (K,) is the
    mean cost of each exit as the only one that is used. The metadata are further entries for the policy files.
    """
    if isinstance(goal, Budget):
        options: dict[str, Any] = {"policy": goal.family, "score": goal.score, "alternatives": goal.alternatives}
        return calibrate_each(scores, costs, goal.values(alone), unit=unit, metadata=metadata, **options)
    if isinstance(goal, Deadline):
        return [exit_for_deadline(alone, goal.milliseconds, scores, metadata=metadata)]
    options = {"risk": goal.of, "bound": goal.bound, "score": goal.score or "confidence"}
    return [calibrate_risk(scores, costs, goal.eps, goal.delta, unit=unit, metadata=metadata, **options)]
