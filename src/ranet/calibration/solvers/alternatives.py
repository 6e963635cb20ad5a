"""Alternatives to spending the budget: one exit alone, or a cheaper policy, if it is at least as accurate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ranet.calibration.policies.intervals import accuracy_difference
from ranet.calibration.scores.exit_scores import ExitScores
from ranet.calibration.solvers.calibration import Calibration, Instead

Floats = npt.NDArray[np.float64]

GRID = 20  # smaller budgets to try, from the first exit's cost to the last's
CHEAPER = "a cheaper policy"


def best_within(
    budgets: Sequence[float],
    solve: Callable[[float], Calibration],
    alone: Sequence[Calibration],
    scores: ExitScores,
    costs: Floats,
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
    name = CHEAPER if exit is None else alone_name(exit)
    exits, images = (one.policy.exits(scores) for one in (chosen, own)), np.arange(scores.num_images)
    gain, interval = accuracy_difference(*(scores.correct[at, images] for at in exits))
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
