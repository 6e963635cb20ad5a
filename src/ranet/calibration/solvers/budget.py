"""Policies that meet a budget."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from math import inf
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt

from ranet.calibration.policies.exit_policy import ExitPolicy
from ranet.calibration.policies.intervals import accuracy_difference
from ranet.calibration.policies.outcome import Costs, costs_of_images
from ranet.calibration.scores.checks import require_scores
from ranet.calibration.scores.exit_scores import ExitScores
from ranet.calibration.solvers.calibration import Calibration, Instead, Promises
from ranet.calibration.solvers.exit_choice import ExitChoice, Exits
from ranet.calibration.solvers.families import FOLDS, SMOOTHING, Family
from ranet.cost.table import CostTable, ImageCosts
from ranet.errors import UserError

GRID = 20  # smaller budgets to try, from the first exit's cost to the last's
Budgets = Sequence[float] | npt.NDArray[np.float64]


def calibrate(
    scores: ExitScores,
    cost_per_exit: Costs,
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
    - "patience": leave when a number of consecutive exits agree (`patience_scores`);
    - "optimal": the geometric rule on the best score (`ScoreChoice`), or a free threshold for each exit
      (`OptimalSolver`), if these win under cross-fitting on images that they were not solved on; else "geometric".

    Args:
        scores: scores of validation images, which the network was not trained on; only "optimal" needs labels.
        cost_per_exit: (K,) cumulative cost of each exit, increasing; or a `CostTable`, by which the cost depends on the
            used exits: then these are chosen, too (`ExitChoice`), but "patience" uses all.
        budget: mean cost of an image, in the unit of the costs.
        policy: the family.
        score: score that "geometric", "one_threshold" and "optimal" compare: "confidence", "margin" or "entropy"; None
            is the confidence, and for "optimal" the score that wins.
        unit: unit of costs and budget, for messages and the policy file ("macs", "paper_ops", "ms"); by default that of
            the table.
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
    cost_per_exit: Costs,
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
    """Find a policy for each of many budgets; see `calibrate`. All budgets are checked before any is solved.

    Without ``alternatives`` or labels every budget is spent as far as possible, even without a gain: a larger budget
    can give less validation accuracy than a smaller one. With both it cannot: the policies of smaller budgets are
    alternatives.
    """
    require_scores(scores)
    family = Family(policy, score, smoothing, folds)
    everything = tuple(range(scores.num_exits))
    of_all = costs_of_images(cost_per_exit, scores)
    table = cost_per_exit if isinstance(cost_per_exit, CostTable) else None
    unit = unit or ("" if table is None else table.unit)

    @cache
    def costs_with(exits: Exits) -> ImageCosts:
        return of_all if table is None else replace(of_all, fixed=table.cumulative(exits))

    @cache
    def promises_for(exits: Exits, name: str) -> Promises:
        return Promises(scores, costs_with(exits), name, unit, metadata)

    # Where exits are chosen, images can leave at any exit behind one fused stage.
    chooses = table if family.score != "patience" else None
    reachable = of_all.means if chooses is None else replace(of_all, fixed=chooses.alone).means
    check_budgets(budgets, reachable, unit)
    choice = ExitChoice(scores, table, costs_with, family)

    def own(budget: float) -> Calibration:
        exits, solution, verdict = choice.solve(budget)
        return promises_for(exits, solution.score).promise(
            solution.thresholds,
            family=policy,
            parameters=solution.parameters,
            budget=budget,
            notices=_beyond(budget, costs_with(exits).means, unit),
            verdict=verdict,
        )

    asked = [float(budget) for budget in budgets]
    if not (alternatives and scores.has("correct")):
        return [own(budget) for budget in asked]
    alone = []
    for k in everything:
        used = {"exit_index": k} if table is None else {"exit_index": k, "used_exits": [k]}
        exits = everything if table is None else tuple(sorted({k, everything[-1]}))
        thresholds = ExitPolicy.only(k, len(everything)).thresholds
        alone.append(promises_for(exits, "confidence").promise(thresholds, family=policy, parameters=used))
    return best_within(asked, own, alone, scores, reachable)


def best_within(
    budgets: Sequence[float],
    solve: Callable[[float], Calibration],
    alone: Sequence[Calibration],
    scores: ExitScores,
    costs: npt.NDArray[np.float64],
) -> list[Calibration]:
    """Return for each budget the candidate with the highest validation accuracy; of equals, the cheapest.

    A family spends its budget even where that does not help: it sends images to exits that are worse than earlier ones.
    So its policy competes with each exit alone, and with the family's policies for smaller budgets: the other given
    ones and a grid of GRID more. A larger budget never gets a less accurate policy.

    No candidate is fitted to the images more than the family's own policy, and none costs more. But there are many
    candidates, so on few images one can win by chance; this may lose some accuracy, at a lower cost.
    `Calibration.instead` holds the gain and its interval.

    Args:
        budgets: budgets of at least the first exit's cost.
        solve: function that returns the family's own policy for a budget.
        alone: each exit alone, with its promise.
        scores: labelled validation scores, on which all promises were made.
        costs: (K,) mean costs, from that of the cheapest policy to that of the most expensive.
    """
    smaller = np.linspace(costs[0], costs[-1], GRID)
    wanted = sorted({*budgets, *smaller[smaller < max(budgets, default=0)].tolist()})
    own = {budget: solve(budget) for budget in wanted}
    best: list[Calibration] = []
    for budget in budgets:
        rivals = [one for one in alone if one.predicted_cost <= budget]
        rivals += [own[less] for less in wanted if less < budget]
        rival = max(rivals, key=_worth, default=own[budget])
        best.append(_instead(rival, own[budget], scores) if _worth(rival) > _worth(own[budget]) else own[budget])
    return best


def alone_name(exit: int) -> str:
    """Return the name of the policy under which all images leave at this exit, 0..K-1."""
    return f"exit {exit + 1} alone"


def _worth(one: Calibration) -> tuple[float, float]:
    return one.predicted_accuracy, -one.predicted_cost


def _instead(chosen: Calibration, own: Calibration, scores: ExitScores) -> Calibration:
    """Return the chosen calibration with the budget of the one that it replaces, and the gain over it."""
    exit = chosen.parameters.get("exit_index")
    name = "a cheaper policy" if exit is None else alone_name(exit)
    images, (here, there) = np.arange(scores.num_images), (one.policy.exits(scores) for one in (chosen, own))
    gain, interval = accuracy_difference(scores.correct[here, images], scores.correct[there, images])
    instead = Instead(name, own.predicted_cost, own.predicted_accuracy, gain, interval)
    told = {"chosen": name, "instead_of": {"cost": instead.cost, "accuracy": instead.accuracy}}
    metadata = {**chosen.policy.metadata, "budget": own.policy.metadata["budget"], **told}
    return replace(
        chosen,
        policy=replace(chosen.policy, metadata=metadata),
        parameters={**chosen.parameters, **told},
        notices=own.notices,
        instead=instead,
    )


def check_budgets(budgets: Budgets, costs: npt.NDArray[np.float64], unit: str) -> None:
    """Refuse budgets that are not positive numbers, or less than the first exit's cost; the message gives the range."""
    if isinstance(budgets, str):
        raise UserError(f"Budgets must be a list of positive numbers, not {budgets!r}; {_reachable(costs, unit)}.")
    for budget in budgets:
        if isinstance(budget, list | tuple | np.ndarray):
            raise UserError("The budget must be one number; for several budgets use calibrate_each.")
        if isinstance(budget, bool) or not isinstance(budget, Real) or not 0 < float(budget) < inf:
            raise UserError(f"The budget must be a positive number, not {budget}; {_reachable(costs, unit)}.")
        if budget < costs[0]:
            raise UserError(f"No policy has a mean cost of {_number(float(budget), unit)}; {_reachable(costs, unit)}.")


def _beyond(budget: float, costs: npt.NDArray[np.float64], unit: str) -> tuple[str, ...]:
    """Return a notice if the budget is more than can be spent."""
    given, last = _number(budget, unit), _number(costs[-1], unit)
    notice = f"The budget ({given}) exceeds the cost of the last exit ({last}), so every image runs to the last exit."
    return (notice,) if budget > costs[-1] else ()


def _reachable(costs: npt.NDArray[np.float64], unit: str) -> str:
    return (
        f"possible budgets are {_number(costs[0], unit)} (all images leave at exit 1) to {_number(costs[-1], unit)} "
        f"(all leave at exit {len(costs)})"
    ) + (f", or {costs[0] / costs[-1]:.3g} to 1 as a fraction of the last exit's cost" if costs[-1] > 0 else "")


def _number(cost: float, unit: str) -> str:
    return f"{cost:,.0f} {unit}".rstrip() if cost >= 1000 else f"{cost:.4g} {unit}".rstrip()
