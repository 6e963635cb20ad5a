"""A solved policy, with what it promises in its metadata."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import nan
from typing import Any

import numpy as np
import numpy.typing as npt

from ranet.calibration.policies.distribution import summarise_scores
from ranet.calibration.policies.exit_policy import ExitPolicy, first_exits, possible_exits, software_versions
from ranet.calibration.policies.intervals import LEVEL, Interval, cost_levels, outcome_intervals
from ranet.calibration.scores.exit_scores import ExitScores
from ranet.calibration.solvers.cross_fitting import Verdict
from ranet.cost.table import ImageCosts


@dataclass(frozen=True)
class Instead:
    """The policy that spends the budget, and that a better policy replaced.

    Attributes:
        chosen: name of the policy that replaced it, such as "exit 2 alone".
        cost, accuracy: mean cost and top-1 accuracy on validation of the replaced policy.
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
    """A solved policy; what it promises is ``policy.promise``, of which the properties are parts.

    Attributes:
        policy: the policy, ready to save.
        parameters: results of the solver, such as "ratio" or "accepted"; also in the metadata of the policy.
        notices: sentences for the user to read.
        instead: the policy that this one replaced; None if this is the family's own policy for the budget.
        verdict: comparison of the used exits with all exits on images that neither was solved on; None if they were not
            compared, because all exits are used or every image runs to the last.
        p_value: of the hypothesis that the policy breaks its guarantee; NaN without one, or in expectation.
    """

    policy: ExitPolicy
    parameters: dict[str, Any] = field(default_factory=dict)
    notices: tuple[str, ...] = ()
    instead: Instead | None = None
    verdict: Verdict | None = None
    p_value: float = nan

    @property
    def predicted_cost(self) -> float:
        """Mean cost on validation, at most the budget if there is one."""
        return self.policy.promise.cost

    @property
    def cost_interval(self) -> Interval:
        """Interval of the mean cost (95 %)."""
        return self.policy.promise.cost_interval

    @property
    def predicted_accuracy(self) -> float:
        """Top-1 accuracy on validation, a fraction; NaN without labels."""
        return self.policy.promise.accuracy

    @property
    def interval(self) -> Interval:
        """Interval of the accuracy (95 %); NaN without labels."""
        return self.policy.promise.accuracy_interval or (nan, nan)

    @property
    def exit_shares(self) -> npt.NDArray[np.float64]:
        """(K,) exit shares on validation."""
        return self.policy.promise.exit_shares

    @property
    def cost_per_exit(self) -> npt.NDArray[np.float64]:
        """(K,) cumulative cost of each exit, with the exits that the policy uses."""
        costs = self.policy.promise.cost_per_exit
        assert costs is not None
        return costs

    @property
    def used_exits(self) -> tuple[int, ...]:
        """Indices of the exits that the policy uses, where they were chosen; the others have infinite thresholds."""
        return self.policy.promise.used_exits or ()

    @property
    def risk(self) -> float:
        """Risk on the calibration images (`ranet.calibrate_risk`); NaN without a guarantee."""
        guarantee = self.policy.promise.guarantee
        return nan if guarantee is None else guarantee.empirical_risk

    @property
    def threshold(self) -> float:
        """The common threshold of all exits, of families that have one; infinite if every image runs to the last."""
        return float(self.parameters["threshold"])


class Promises:
    """A maker of calibrations: evaluates policies of one score on validation scores and stores the outcome in them.

    The policies get the temperatures of the scores, the unit of the costs and the further entries of the metadata.
    """

    def __init__(
        self,
        scores: ExitScores,
        costs: ImageCosts,
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
            "cost_per_exit": costs.fixed,
            **({"part_costs": costs.parts} if len(costs.parts) else {}),
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
        **others: Any,
    ) -> Calibration:
        """Return the policy of these thresholds (K - 1,) with its promise.

        The solver's family and parameters, and the budget of a policy that meets one, go into the metadata; others are
        further attributes of the `Calibration`.
        """
        values = tuple(np.asarray(thresholds, dtype=np.float32).tolist())
        exits, possible = first_exits(self.compared, values), possible_exits(values)
        correct = self.scores.correct_at(exits)
        intervals = outcome_intervals(exits, correct, self.costs, possible)
        counts = {} if self.costs.added is None else {"cost_counts": cost_levels(exits, self.costs, possible)[0]}
        predicted = {
            "images": len(exits),
            "cost": self.costs.mean(exits),
            "cost_interval": intervals.cost,
            "accuracy": nan if correct is None else float(correct.mean()),
            "accuracy_interval": intervals.accuracy,
            "level": LEVEL,
            "exit_shares": np.bincount(exits, minlength=self.scores.num_exits) / len(exits),
            **counts,
        }
        content = {"policy": family, **(parameters or {}), "budget": budget, "predicted": predicted, **self.shared}
        return Calibration(ExitPolicy(values, self.score, self.temperatures, content), dict(parameters or {}), **others)
