"""Promise and truth: the predictions in a policy file, and the results of the policy on other images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ranet.calibration.goals import RISKS
from ranet.calibration.guarantees.risk import observed_risk
from ranet.calibration.policies.exit_policy import ExitPolicy
from ranet.calibration.policies.intervals import OutcomeIntervals, cost_levels, outcome_intervals
from ranet.calibration.policies.outcome import Costs, PolicyOutcome, costs_of_images, evaluate_policy
from ranet.calibration.policies.promise import Promise
from ranet.calibration.scores.exit_scores import ExitScores
from ranet.cost.table import ImageCosts
from ranet.evaluation.cells import interval_text
from ranet.evaluation.policies.differences import Difference, mean_difference


@dataclass(frozen=True, eq=False)
class PolicyReport:
    """The promise and the results of a policy.

    Attributes:
        policy: the policy, with the promise in its metadata if `calibrate` made it.
        promised: outcome on validation; NaN where the policy stores none.
        promised_intervals: intervals of the promised accuracy and mean cost, from the policy (95 %).
        seen: outcome on the images scored here.
        seen_intervals: intervals of accuracy and mean cost on the images scored here (95 %).
        cost_difference: mean cost seen minus promised; None if the policy does not store its calibration counts.
        accuracy_difference: top-1 fraction seen minus promised; None without labels or a promised accuracy.
        cost_per_exit: (K,) cumulative cost of each exit.
        unit: unit of the costs.
        budget: budget of the policy; NaN without one.
        images: number of images scored here.
        risk: observed risk of the policy's guarantee; None without a guarantee, or without the labels that it needs.
    """

    policy: ExitPolicy
    promised: PolicyOutcome
    promised_intervals: OutcomeIntervals
    seen: PolicyOutcome
    seen_intervals: OutcomeIntervals
    cost_difference: Difference | None
    accuracy_difference: Difference | None
    cost_per_exit: npt.NDArray[np.float64]
    unit: str
    budget: float
    images: int
    risk: float | None = None

    @property
    def verdict(self) -> str:
        """Whether cost and accuracy differ from the promise by more than chance, in one sentence."""
        parts = []
        if self.cost_difference is not None:
            parts.append(f"mean cost {_signed(self.cost_difference.in_percent, 1, '%')}")
        if self.accuracy_difference is not None:
            parts.append(f"top-1 {_signed(self.accuracy_difference, 100, 'points')}")
        if not parts:
            return "The policy does not store on how many images it was made, so its promise cannot be tested."
        return f"Seen minus promised, with 95 % intervals: {'; '.join(parts)}."

    @property
    def sentences(self) -> list[str]:
        """Sentences on what the table does not show."""
        found = [self.verdict]
        guarantee = self.policy.promise.guarantee
        if guarantee is not None and self.risk is not None:
            about = "accuracy lost" if guarantee.risk == "accuracy" else "other answers than the last exit's"
            found.append(
                f"Guarantee: {about} at most {100 * guarantee.eps:.4g} %; {100 * self.risk:.2f} % on these images."
            )
        if self.unit == "ms":
            found.append("Milliseconds are those measured at calibration; nothing was timed now.")
        return found


def policy_report(
    policy: ExitPolicy, scores: ExitScores, cost_per_exit: Costs | None = None, unit: str | None = None
) -> PolicyReport:
    """Apply a policy to scored images, and compare the results with its promise.

    Both are from samples: each has an interval for its number of images, and their difference has the sampling error of
    both (`mean_difference`). The scores are of images that the policy was not made on, with its temperatures; the (K,)
    cumulative costs and their unit are by default those in the policy.

    Raises:
        UserError: if policy and scores differ in the number of exits or the temperatures, or the costs of the exits are
            unknown.
    """
    exits = policy.exits(scores)
    promise, executed = policy.promise, scores.executed
    costs = promise.costs_of_images(executed) if cost_per_exit is None else costs_of_images(cost_per_exit, scores)
    correct = scores.correct_at(exits)
    return PolicyReport(
        policy=policy,
        promised=PolicyOutcome(promise.accuracy, promise.cost, promise.exit_shares, np.full(policy.num_exits, np.nan)),
        promised_intervals=OutcomeIntervals(promise.accuracy_interval, promise.cost_interval),
        seen=evaluate_policy(policy, scores, costs),
        seen_intervals=outcome_intervals(exits, correct, costs, policy.possible_exits),
        cost_difference=cost_difference(promise, exits, costs, policy.possible_exits),
        accuracy_difference=_accuracy_difference(promise, correct),
        cost_per_exit=costs.means,
        unit=promise.unit if unit is None else unit,
        budget=promise.budget,
        images=scores.num_images,
        risk=_risk(policy, scores),
    )


def cost_difference(
    promise: Promise, exits: npt.NDArray[np.int64], costs: ImageCosts, possible: npt.NDArray[np.bool_]
) -> Difference | None:
    """Return the mean cost seen minus promised; None if the promise does not hold how many images left at each exit.

    The seen images leave at (N,) exits, of which (K,) are possible under the policy.
    """
    promised = promise.exit_counts
    if promised is None or promised[~possible].any():
        return None
    seen, low, high = cost_levels(exits, costs, possible)
    then = promised[possible] if costs.added is None else promise.cost_counts
    return None if then is None else mean_difference(then, seen, (low + high) / 2)


def _accuracy_difference(promise: Promise, correct: npt.NDArray[np.bool_] | None) -> Difference | None:
    accuracy, images = promise.accuracy, promise.images
    if correct is None or not (images and 0 <= accuracy <= 1):
        return None
    promised = round(accuracy * images)
    return mean_difference([images - promised, promised], np.bincount(correct, minlength=2), [0.0, 1.0])


def _signed(difference: Difference, factor: float, what: str) -> str:
    meaning = "more than chance" if difference.significant else "no more than chance"
    return f"{factor * difference.value:+.2f} {what} ({interval_text(difference.interval, factor, '+.2f')}), {meaning}"


def _risk(policy: ExitPolicy, scores: ExitScores) -> float | None:
    risk = policy.promise.guarantee and policy.promise.guarantee.risk
    if risk not in RISKS or not scores.has("correct" if risk == "accuracy" else "prediction"):
        return None
    return observed_risk(policy, scores, risk)
