"""The policy that meets a budget."""

from __future__ import annotations

from collections.abc import Mapping
from math import exp, inf, log
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import bisect

from ranet.calibration.geometric import descending, geometric_thresholds
from ranet.calibration.outcome import checked_costs, evaluate_thresholds
from ranet.calibration.promise import Calibration, promise
from ranet.calibration.scores import ExitScores
from ranet.errors import UserError, unknown_name

POLICIES = ("geometric",)
GRID = 64
SMALLEST_RATIO = 1e-18  # q_1 rounds to 1 in float64: everybody leaves at the first exit
RESOLUTION = 1e-13  # of the log ratio; two quotas that change nearer than this change together


def calibrate(
    scores: ExitScores,
    cost_per_exit: npt.ArrayLike,
    budget: float,
    *,
    policy: str = "geometric",
    unit: str = "",
    metadata: Mapping[str, Any] | None = None,
) -> Calibration:
    """Find the policy whose mean cost on validation meets the budget: as near as its family comes, and never above.

    A budget of at least the last exit's cost sends everybody there.

    Args:
        scores: on validation images, which the network was not trained on.
        cost_per_exit: (K,) cumulative cost of each exit.
        budget: mean cost for each image, in the unit of the costs.
        policy: the family; "geometric" has one parameter, the ratio.
        unit: of costs and budget, for messages and the policy file ("macs", "paper_ops", "ms").
        metadata: further entries for the policy file, such as the network's name.

    Raises:
        UserError: for a budget that no policy reaches (with the range that is reachable), an unknown family, or costs
            of another number of exits.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> scores = ExitScores.from_logits(rng.normal(size=(3, 500, 10)), rng.integers(10, size=500))
        >>> calibration = calibrate(scores, [1.0, 2.0, 4.0], budget=2.5)
        >>> round(calibration.predicted_cost, 2), len(calibration.policy.thresholds)
        (2.5, 2)
    """
    if policy not in POLICIES:
        raise unknown_name("policy", policy, POLICIES)
    costs = checked_costs(cost_per_exit, scores.num_exits)
    if not 0 < budget < inf:
        raise UserError(f"The budget must be a positive number, not {budget}; {_reachable(costs, unit)}.")
    solution = _everybody_to_the_last(scores) if budget >= costs[-1] else _solve_ratio(scores, costs, budget)
    if solution is None:
        raise UserError(f"No {policy} policy has a mean cost of {_number(budget, unit)}; {_reachable(costs, unit)}.")
    ratio, thresholds = solution
    return promise(
        thresholds,
        scores,
        costs,
        family=policy,
        parameters={"ratio": ratio},
        unit=unit,
        budget=budget,
        metadata=metadata,
    )


def budget_in_cost(budget: float, unit: str, cost_per_exit: npt.ArrayLike) -> float:
    """The budget in the unit of the costs, where "fraction" means a fraction of the last exit's cost.

    Raises:
        UserError: for a fraction outside (0, 1].

    Example:
        >>> budget_in_cost(0.25, "fraction", [10e6, 40e6]), budget_in_cost(20e6, "macs", [10e6, 40e6])
        (10000000.0, 20000000.0)
    """
    if unit != "fraction":
        return budget
    if not 0 < budget <= 1:
        raise UserError(f"A budget in the unit fraction must lie above 0 and be at most 1, not {budget}.")
    return budget * float(np.asarray(cost_per_exit, dtype=np.float64)[-1])


Solution = tuple[float, npt.NDArray[np.float32]]


def _everybody_to_the_last(scores: ExitScores) -> Solution:
    return inf, np.full(scores.num_exits - 1, np.inf, dtype=np.float32)


def _solve_ratio(scores: ExitScores, costs: npt.NDArray[np.float64], budget: float) -> Solution | None:
    """The ratio with the greatest mean cost that is within the budget, and its thresholds; None if there is none.

    The mean cost is a step function of the ratio, because quotas are whole images. It rises with the ratio but for
    rounding and ties (a crowd of equal confidences leaves together, and can starve the next exit's quota): so a grid
    finds the crossings of the budget, there may be several, and each is narrowed to two neighbouring steps.
    """
    order = descending(scores.confidence)
    best: tuple[float, float, float] | None = None  # cost, accuracy, log ratio

    def excess(log_ratios: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        nonlocal best
        thresholds = geometric_thresholds(scores.confidence, np.exp(log_ratios), order)
        outcomes = evaluate_thresholds(thresholds, scores, costs)
        tried = zip(outcomes.mean_cost.tolist(), outcomes.accuracy.tolist(), log_ratios.tolist(), strict=True)
        best = max((one for one in [*tried, best] if one is not None and one[0] <= budget), default=None)
        return outcomes.mean_cost - budget

    # At a ratio of 2n every quota but the last is zero, and at 1/2n every quota but the first: beyond, nothing changes
    # until rounding gives the first exit everybody.
    end = log(2 * scores.num_images)
    grid = np.array([log(SMALLEST_RATIO), *np.linspace(-end, end, GRID)])
    above = excess(grid) > 0
    for i in np.flatnonzero(above[1:] != above[:-1]):
        # Halving, because interpolation has nothing to hold on to between two steps.
        bisect(lambda x: excess(np.array([x]))[0], grid[i], grid[i + 1], xtol=RESOLUTION, rtol=RESOLUTION)
    if best is None:
        return None
    ratio = exp(best[2])
    return ratio, geometric_thresholds(scores.confidence, [ratio], order)[0]


def _reachable(costs: npt.NDArray[np.float64], unit: str) -> str:
    return (
        f"reachable are {_number(costs[0], unit)} (everybody leaves at exit 1) to {_number(costs[-1], unit)} "
        f"(everybody at exit {len(costs)}), or {costs[0] / costs[-1]:.3g} to 1 as a fraction of the last exit's cost"
    )


def _number(cost: float, unit: str) -> str:
    return f"{cost:,.0f} {unit}".rstrip() if cost >= 1000 else f"{cost:.4g} {unit}".rstrip()
