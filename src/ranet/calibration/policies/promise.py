"""A solved policy and what it promises, with how sure the promise is."""

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
    """The policy of the same family that spends the budget, which another policy was chosen instead of.

    Attributes:
        chosen: what was chosen, such as "exit 2 alone".
        cost: mean cost on validation of the policy that was not chosen.
        accuracy: its top-1 there, a fraction.
        gain: top-1 of the policy that was chosen minus that, at least 0.
        interval: of the gain (95 %), paired by image.
    """

    chosen: str
    cost: float
    accuracy: float
    gain: float
    interval: Interval


@dataclass(frozen=True, eq=False)
class Calibration:
    """A policy and what it promises.

    Attributes:
        policy: ready to save; its metadata repeat what stands here.
        predicted_cost: the mean cost on validation, at most the budget if there is one.
        predicted_accuracy: top-1 on validation, a fraction; NaN without labels.
        interval: of the accuracy (95 %); NaN without labels.
        cost_interval: of the mean cost (95 %).
        exit_shares: (K,) on validation.
        parameters: what was solved for, such as "ratio", or found, such as "accepted"; also in the metadata.
        notices: sentences that the user should read.
        instead: what this policy was chosen instead of; None where it is the one that its family has for the budget.
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
    """Sees what policies come to on validation scores, and writes it into them; what they share is done once.

    Args:
        scores: on validation; the policies take over their temperatures.
        costs: (K,) cumulative cost of each exit.
        score: what is compared.
        unit: of the costs.
        metadata: further entries for all of them, such as the network's name.
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
        """The policy of these thresholds and what it promises.

        Args:
            thresholds: (K - 1,).
            family: name of the solver, "policy" in the metadata.
            parameters: what was solved for; they go into the metadata.
            budget: None for policies that meet something else.
            notices: sentences that the user should read.
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
    """What one policy comes to on validation scores; the arguments are those of `Promises` and its ``promise``."""
    maker = Promises(scores, costs, score, unit, metadata)
    return maker.promise(thresholds, family=family, parameters=parameters, budget=budget, notices=notices)
