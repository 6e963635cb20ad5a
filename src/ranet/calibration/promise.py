"""A solved policy and what it promises, with how sure the promise is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf, nan
from typing import Any

import numpy as np
import numpy.typing as npt

from ranet.calibration.intervals import LEVEL, Interval, bootstrap_intervals
from ranet.calibration.outcome import evaluate_policy
from ranet.calibration.policies import ExitPolicy
from ranet.calibration.scores import ExitScores


@dataclass(frozen=True, eq=False)
class Calibration:
    """A policy and what it promises.

    Attributes:
        policy: ready to save; its metadata repeat what stands here.
        predicted_cost: the mean cost on validation, at most the budget if there is one.
        predicted_accuracy: top-1 on validation, a fraction; NaN without labels.
        interval: bootstrap interval (95 %) of the accuracy; NaN without labels.
        cost_interval: bootstrap interval (95 %) of the mean cost.
        exit_shares: (K,) on validation.
        parameters: what was solved for, such as "ratio", or found, such as "accepted"; also in the metadata.
        notices: sentences that the user should read.
    """

    policy: ExitPolicy
    predicted_cost: float
    predicted_accuracy: float
    interval: Interval
    cost_interval: Interval
    exit_shares: npt.NDArray[np.float64]
    parameters: dict[str, Any]
    notices: tuple[str, ...] = ()

    @property
    def ratio(self) -> float:
        """Of the geometric series; infinite if everybody goes to the last exit, NaN for other policies."""
        ratio = self.parameters.get("ratio", nan)
        return inf if ratio is None else float(ratio)


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
    """See what thresholds come to on validation scores, and write it into the policy.

    Args:
        thresholds: (K - 1,).
        scores: on validation; the policy takes over their temperatures.
        costs: (K,) cumulative cost of each exit.
        family: name of the solver, "policy" in the metadata.
        score: what is compared.
        parameters: what was solved for; they go into the metadata.
        unit: of the costs.
        budget: None for policies that meet something else.
        metadata: further entries, such as the network's name.
        notices: sentences that the user should read.
    """
    values = tuple(np.asarray(thresholds, dtype=np.float32).tolist())
    temperatures = None if scores.temperatures is None else tuple(scores.temperatures.tolist())
    policy = ExitPolicy(values, score, temperatures)
    outcome = evaluate_policy(policy, scores, costs)
    exits = policy.exits(scores)
    correct = scores.correct[exits, np.arange(scores.num_images)] if scores.has("correct") else None
    intervals = bootstrap_intervals(exits, correct, costs)
    content = {
        "policy": family,
        **(parameters or {}),
        "unit": unit,
        "budget": budget,
        "cost_per_exit": costs,
        "predicted": {
            "images": scores.num_images,
            "cost": outcome.mean_cost,
            "cost_interval": intervals.cost,
            "accuracy": outcome.accuracy,
            "accuracy_interval": intervals.accuracy,
            "level": LEVEL,
            "exit_shares": outcome.exit_shares,
        },
        **(metadata or {}),
    }
    return Calibration(
        ExitPolicy(values, score, temperatures, content),
        outcome.mean_cost,
        outcome.accuracy,
        intervals.accuracy or (nan, nan),
        intervals.cost,
        outcome.exit_shares,
        dict(parameters or {}),
        notices,
    )
