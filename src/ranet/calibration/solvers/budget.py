"""Policies that meet a budget."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from math import inf
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt

from ranet.calibration.goals import CANDIDATES, score_of
from ranet.calibration.policies.exit_policy import ExitPolicy
from ranet.calibration.policies.outcome import checked_costs
from ranet.calibration.policies.promise import Calibration, Promises
from ranet.calibration.scores.checks import require_scores
from ranet.calibration.scores.exit_scores import ExitScores
from ranet.calibration.solvers.alternatives import best_within
from ranet.calibration.solvers.cross_fitting import OptimalSolver, ScoreChoice
from ranet.calibration.solvers.geometric_solver import GeometricSolver
from ranet.calibration.solvers.one_threshold import OneThresholdSolver
from ranet.errors import UserError

SMOOTHING = 0.02
FOLDS = 2

Budgets = Sequence[float] | npt.NDArray[np.float64]
Solution = tuple[str, npt.NDArray[np.float32], Mapping[str, Any]]


def calibrate(
    scores: ExitScores,
    cost_per_exit: npt.ArrayLike,
    budget: float,
    *,
    policy: str = "geometric",
    score: str | None = None,
    unit: str = "",
    metadata: Mapping[str, Any] | None = None,
    smoothing: float = SMOOTHING,
    folds: int = FOLDS,
    alternatives: bool = True,
) -> Calibration:
    """Find a policy whose mean cost on validation is within the budget.

    This is the family's policy whose cost is nearest to the budget without exceeding it. With a budget of at least the
    last exit's cost, every image runs to the last exit. If labels show that one exit alone, or a cheaper policy of the
    family, is at least as accurate on validation, it is chosen instead (`best_within`).

    The families:

    - "geometric": the papers' rule, by which the shares of the exits follow a geometric series (`GeometricSolver`);
      "margin" and "entropy" are the same rule with that score in place of the confidence;
    - "one_threshold": the same threshold at all exits (`OneThresholdSolver`);
    - "patience": leave when a number of consecutive exits agree, with the confidence as a fraction of one more exit
      (`patience_scores`);
    - "optimal": the geometric rule on the best score (`ScoreChoice`), or a free threshold for each exit
      (`OptimalSolver`), if these win under cross-fitting on images that they were not solved on; else "geometric".

    Args:
        scores: scores of validation images, which the network was not trained on; only "optimal" needs labels.
        cost_per_exit: (K,) cumulative cost of each exit, increasing.
        budget: mean cost of an image, in the unit of the costs.
        policy: the family.
        score: score that "geometric", "one_threshold" and "optimal" compare: "confidence", "margin" or "entropy"; None
            is the confidence, and for "optimal" the score that wins.
        unit: unit of costs and budget, for messages and the policy file ("macs", "paper_ops", "ms").
        metadata: further entries for the policy file, such as the network's name.
        smoothing: for "optimal", the fraction of the images over which accuracy is averaged along each threshold.
        folds: for "optimal", the number of cross-fitting folds, at least 2; 0 takes the best free thresholds on the
            confidence without cross-fitting.
        alternatives: whether one exit alone, or a cheaper policy, may replace the family's own.

    Raises:
        UserError: if no policy meets the budget (the message gives the possible range), the family or score is unknown,
            or the costs have another number of exits.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> labels = rng.integers(10, size=500)
        >>> better = np.array([2.0, 4.0, 6.0])[:, None, None] * np.eye(10)[labels]
        >>> scores = ExitScores.from_logits(rng.normal(size=(3, 500, 10)) + better, labels)
        >>> calibration = calibrate(scores, [1.0, 2.0, 4.0], budget=1.5)
        >>> round(calibration.predicted_cost, 2), len(calibration.policy.thresholds)
        (1.5, 2)
        >>> calibration = calibrate(scores, [1.0, 2.0, 4.0], budget=2.5)
        >>> round(calibration.predicted_cost, 2), calibration.instead.chosen
        (2.0, 'exit 2 alone')
    """
    options: dict[str, Any] = {"policy": policy, "score": score, "unit": unit, "metadata": metadata}
    options |= {"smoothing": smoothing, "folds": folds, "alternatives": alternatives}
    return calibrate_each(scores, cost_per_exit, [budget], **options)[0]


def calibrate_each(
    scores: ExitScores,
    cost_per_exit: npt.ArrayLike,
    budgets: Budgets,
    *,
    policy: str = "geometric",
    score: str | None = None,
    unit: str = "",
    metadata: Mapping[str, Any] | None = None,
    smoothing: float = SMOOTHING,
    folds: int = FOLDS,
    alternatives: bool = True,
) -> list[Calibration]:
    """Find a policy for each of many budgets; see `calibrate`. Shared work is done once.

    Without ``alternatives`` or labels every budget is spent as far as possible, even without a gain: a larger budget
    can give less validation accuracy than a smaller one. With both it cannot, because the policies of the smaller
    budgets are alternatives too.

    Raises:
        UserError: as for `calibrate`, before any budget is solved.
    """
    require_scores(scores)
    costs = checked_costs(cost_per_exit, scores.num_exits)
    compared = score_of(policy, score)
    check_budgets(budgets, costs, unit)
    if not (0 <= smoothing <= 1 and folds != 1 and folds >= 0 and folds == int(folds)):
        raise UserError(f"smoothing={smoothing} must be in [0, 1], and folds={folds} 0 or an integer of at least 2.")
    solve = _solver(policy, scores, costs, compared, smoothing, int(folds), by_choice=score is None)
    promises_for = cache(lambda name: Promises(scores, costs, name, unit, metadata))

    def own(asked: Budgets) -> list[Calibration]:
        found = []
        for budget in map(float, asked):
            name, thresholds, parameters = solve(budget)
            notices = _beyond(budget, costs, unit)
            options: dict[str, Any] = {"parameters": parameters, "budget": budget, "notices": notices}
            found.append(promises_for(name).promise(thresholds, family=policy, **options))
        return found

    if not (alternatives and scores.has("correct")):
        return own(budgets)
    static = promises_for("confidence")
    alone = [
        static.promise(ExitPolicy.only(k, len(costs)).thresholds, family=policy, parameters={"exit_index": k})
        for k in range(len(costs))
    ]
    return best_within(budgets, own, alone, scores, costs)


def check_budgets(budgets: Budgets, costs: npt.NDArray[np.float64], unit: str) -> None:
    """Refuse budgets that no policy can meet; the message gives the possible range.

    Raises:
        UserError: if a budget is not a positive number, or is less than the first exit's cost.
    """
    if isinstance(budgets, str):
        raise UserError(f"Budgets must be a list of positive numbers, not {budgets!r}; {_reachable(costs, unit)}.")
    for budget in budgets:
        if isinstance(budget, list | tuple | np.ndarray):
            raise UserError("The budget must be one number; for several budgets use calibrate_each.")
        if isinstance(budget, bool) or not isinstance(budget, Real) or not 0 < float(budget) < inf:
            raise UserError(f"The budget must be a positive number, not {budget}; {_reachable(costs, unit)}.")
        if budget < costs[0]:
            raise UserError(f"No policy has a mean cost of {_number(float(budget), unit)}; {_reachable(costs, unit)}.")


def _solver(
    policy: str,
    scores: ExitScores,
    costs: npt.NDArray[np.float64],
    score: str,
    smoothing: float,
    folds: int,
    by_choice: bool,
) -> Callable[[float], Solution]:
    """Return a function that solves a budget: it returns the score's name, the thresholds and other results."""
    if policy == "optimal":
        return _optimal(scores, costs, score, smoothing, folds, by_choice)
    compared = scores.score(score)
    name, solver = (
        ("threshold", OneThresholdSolver(compared, costs))
        if policy in ("one_threshold", "patience")
        else ("ratio", GeometricSolver(compared, costs))
    )

    def solve(budget: float) -> Solution:
        thresholds, value = solver.solve(budget)
        return score, thresholds, {name: value}

    return solve


def _optimal(
    scores: ExitScores, costs: npt.NDArray[np.float64], score: str, smoothing: float, folds: int, by_choice: bool
) -> Callable[[float], Solution]:
    """Return `_solver` for the family "optimal"."""
    solvers: dict[str, OptimalSolver] = {}
    choice = None
    if by_choice and min(folds, scores.num_images) > 1 and scores.num_exits > 1:
        candidates = {name: scores.score(name) for name in CANDIDATES if scores.has(name)}
        choice = ScoreChoice(candidates, scores.correct, costs, min(folds, scores.num_images))

    def solve(budget: float) -> Solution:
        name, verdict = (score, None) if choice is None else choice.near(budget)
        if name not in solvers:
            solvers[name] = OptimalSolver(scores.score(name), scores.correct, costs, smoothing, folds)
        thresholds, told = solvers[name].solve(budget)
        because = {} if verdict is None else {"score_gain": verdict.gain, "score_gain_error": verdict.error}
        return name, thresholds, {**told, **because}

    return solve


def _beyond(budget: float, costs: npt.NDArray[np.float64], unit: str) -> tuple[str, ...]:
    """Return a notice if the budget is more than can be spent."""
    if budget <= costs[-1]:
        return ()
    last = _number(costs[-1], unit)
    return (
        f"The budget ({_number(budget, unit)}) exceeds the cost of the last exit ({last}), so every image runs to the "
        "last exit.",
    )


def _reachable(costs: npt.NDArray[np.float64], unit: str) -> str:
    return (
        f"possible budgets are {_number(costs[0], unit)} (all images leave at exit 1) to {_number(costs[-1], unit)} "
        f"(all leave at exit {len(costs)})"
    ) + (f", or {costs[0] / costs[-1]:.3g} to 1 as a fraction of the last exit's cost" if costs[-1] > 0 else "")


def _number(cost: float, unit: str) -> str:
    return f"{cost:,.0f} {unit}".rstrip() if cost >= 1000 else f"{cost:.4g} {unit}".rstrip()
