"""A solved policy and its promise: predicted cost, accuracy and exit shares, with intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import nan
from typing import Any

import numpy as np
import numpy.typing as npt

from ranet.calibration.policies.distribution import summarise_scores
from ranet.calibration.policies.exit_policy import ExitPolicy, first_exits, possible_exits
from ranet.calibration.policies.file import software_versions
from ranet.calibration.policies.intervals import LEVEL, Interval, outcome_intervals
from ranet.calibration.policies.outcome import mean_cost
from ranet.calibration.scores.exit_scores import ExitScores


@dataclass(frozen=True)
class Instead:
    """The policy that spends the budget, and that a better policy replaced.

    Attributes:
        chosen: name of the policy that replaced it, such as "exit 2 alone".
        cost: mean cost on validation of the replaced policy.
        accuracy: top-1 accuracy on validation of the replaced policy, a fraction.
        gain: accuracy of the chosen policy minus that of the replaced one, at least 0.
        interval: interval of the gain (95 %), paired by image.
    """

    chosen: str
    cost: float
    accuracy: float
    gain: float
    interval: Interval


@dataclass(frozen=True, eq=False)
class Calibration:
    """A policy and its promise.

    Attributes:
        policy: the policy, ready to save; its metadata repeat the other attributes.
        predicted_cost: mean cost on validation, at most the budget if there is one.
        predicted_accuracy: top-1 accuracy on validation, a fraction; NaN without labels.
        interval: interval of the accuracy (95 %); NaN without labels.
        cost_interval: interval of the mean cost (95 %).
        exit_shares: (K,) exit shares on validation.
        parameters: results of the solver, such as "ratio" or "accepted"; also in the metadata.
        notices: sentences for the user to read.
        instead: the policy that this one replaced; None if this is the family's own policy for the budget.
    """

    policy: ExitPolicy
    predicted_cost: float
    predicted_accuracy: float
    interval: Interval
    cost_interval: Interval
    exit_shares: npt.NDArray[np.float64]
    parameters: dict[str, Any]
    notices: tuple[str, ...] = ()
    instead: Instead | None = None


class Promises:
    """A maker of calibrations: evaluates policies on validation scores and stores the outcome in them.

    Args:
        scores: scores on validation; the policies get their temperatures.
        costs: (K,) cumulative cost of each exit.
        score: score to compare.
        unit: unit of the costs.
        metadata: further entries for all policies, such as the network's name.
    """

    def __init__(
        self,
        scores: ExitScores,
        costs: npt.NDArray[np.float64],
        score: str = "confidence",
        unit: str = "",
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        self.scores = scores
        self.costs = costs
        self.score = score
        self.compared = scores.score(score)
        self.temperatures = None if scores.temperatures is None else tuple(scores.temperatures.tolist())
        self.shared = {
            "unit": unit,
            "cost_per_exit": costs.tolist(),
            "score_distribution": summarise_scores(self.compared),
            "solved_with": software_versions(),
            **(metadata or {}),
        }

    def promise(
        self,
        thresholds: npt.NDArray[np.float32] | tuple[float, ...],
        *,
        family: str,
        parameters: Mapping[str, Any] | None = None,
        budget: float | None = None,
        notices: tuple[str, ...] = (),
    ) -> Calibration:
        """Return the policy of these thresholds and its promise.

        Args:
            thresholds: (K - 1,) thresholds.
            family: name of the solver, "policy" in the metadata.
            parameters: results of the solver, for the metadata.
            budget: the budget; None for policies that meet another goal.
            notices: sentences for the user to read.
        """
        values = tuple(np.asarray(thresholds, dtype=np.float32).tolist())
        exits = first_exits(self.compared, values)
        left = np.bincount(exits, minlength=len(self.costs))
        cost, shares = float(mean_cost(left, self.costs)), left / len(exits)
        correct = self.scores.correct_at(exits)
        accuracy = nan if correct is None else float(correct.mean())
        intervals = outcome_intervals(exits, correct, self.costs, possible_exits(values))
        predicted = {
            "images": len(exits),
            "cost": cost,
            "cost_interval": intervals.cost,
            "accuracy": accuracy,
            "accuracy_interval": intervals.accuracy,
            "level": LEVEL,
            "exit_shares": shares,
        }
        content = {"policy": family, **(parameters or {}), "budget": budget, "predicted": predicted, **self.shared}
        return Calibration(
            ExitPolicy(values, self.score, self.temperatures, content),
            cost,
            accuracy,
            intervals.accuracy or (nan, nan),
            intervals.cost,
            shares,
            dict(parameters or {}),
            notices,
        )


def promise(
    thresholds: npt.NDArray[np.float32] | tuple[float, ...],
    scores: ExitScores,
    costs: npt.NDArray[np.float64],
    *,
    family: str,
    score: str = "confidence",
    parameters: Mapping[str, Any] | None = None,
    unit: str = "",
    budget: float | None = None,
    metadata: Mapping[str, Any] | None = None,
    notices: tuple[str, ...] = (),
) -> Calibration:
    """Return one policy and its promise; the arguments are those of `Promises` and ``Promises.promise``."""
    maker = Promises(scores, costs, score, unit, metadata)
    return maker.promise(thresholds, family=family, parameters=parameters, budget=budget, notices=notices)
