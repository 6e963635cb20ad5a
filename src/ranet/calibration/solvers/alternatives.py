"""One exit alone, or a policy that costs less, where that is at least as accurate as spending the budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from ranet.calibration.policies.exit_policy import ExitPolicy
from ranet.calibration.policies.intervals import accuracy_difference
from ranet.calibration.policies.promise import Calibration, Instead
from ranet.calibration.scores.exit_scores import ExitScores

Floats = npt.NDArray[np.float64]
Solved = TypeVar("Solved", bound=Calibration)

GRID = 20  # smaller budgets that are tried, from the first exit's cost to the last's
CHEAPER = "a cheaper policy"


def best_within(
    budgets: Sequence[float] | Floats,
    solve: Callable[[Sequence[float]], Sequence[Solved]],
    alone: Sequence[Solved],
    scores: ExitScores,
    costs: Floats,
) -> list[Solved]:
    """For each budget the most accurate on validation of all that it pays for, and the cheapest of equals.

    A family spends its budget whatever that is good for: it sends images even to exits that are worse than those before
    them. So it competes with each exit alone, and with its own policies of smaller budgets: those asked for, and GRID
    others. Of two budgets the larger never gets the less accurate policy.

    None of these candidates is fitted to the images more than the family's own policy, and all cost less or the same.
    Still they are many, so that on few images one of them wins by chance: what that can cost is some accuracy, and it
    saves money. `Calibration.instead` says how much was won, and how sure that is.

    Args:
        budgets: each at least the first exit's cost.
        solve: gives the family's own policies of these budgets.
        alone: each exit alone (`alone_policy`), with its promise.
        scores: on validation, labelled, on which all promises were made.
        costs: (K,) from the cheapest policy's cost to the dearest's.
    """
    smaller = np.linspace(costs[0], costs[-1], GRID)
    wanted = sorted({*map(float, budgets), *smaller[smaller < max(budgets, default=0)].tolist()})
    own = dict(zip(wanted, solve(wanted), strict=True))
    best: list[Solved] = []
    for budget in map(float, budgets):
        rivals = [one for one in alone if one.predicted_cost <= budget]
        rivals += [own[less] for less in wanted if less < budget]
        rival = max(rivals, key=_worth, default=own[budget])
        best.append(_instead(rival, own[budget], scores) if _worth(rival) > _worth(own[budget]) else own[budget])
    return best


def alone_name(exit: int) -> str:
    """What a policy is called by which all images leave at this exit, 0..K-1.

    Example:
        >>> alone_name(0)
        'exit 1 alone'
    """
    return f"exit {exit + 1} alone"


def _worth(one: Calibration) -> tuple[float, float]:
    return one.predicted_accuracy, -one.predicted_cost


def _instead(chosen: Solved, own: Solved, scores: ExitScores) -> Solved:
    """The chosen calibration as that of the other's budget, which knows what it was chosen instead of."""
    exit = chosen.parameters.get("exit_index")
    name = CHEAPER if exit is None else alone_name(exit)
    gain, interval = accuracy_difference(*(_right(one.policy, scores) for one in (chosen, own)))
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


def _right(policy: ExitPolicy, scores: ExitScores) -> npt.NDArray[np.bool_]:
    right = scores.correct_at(policy.exits(scores))
    assert right is not None, "the scores are labelled"
    return right
