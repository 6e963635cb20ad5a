"""The report of ranet calibrate: every solved policy with its promise, and its results on test images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ranet.calibration.policies.intervals import OutcomeIntervals, outcome_intervals
from ranet.calibration.policies.outcome import PolicyOutcome, evaluate_policy
from ranet.calibration.scores.exit_scores import ExitScores
from ranet.calibration.solvers.calibration import Calibration
from ranet.cost.units import CostScale
from ranet.evaluation.cells import percent
from ranet.evaluation.curves.static_exits import StaticExits, choice_sentences


@dataclass(frozen=True, eq=False)
class SolvedPolicy:
    """A solved policy, and its results on test images.

    Attributes:
        calibration: the policy and its promise.
        seen: outcome on test images; None without them.
        seen_intervals: intervals of accuracy and mean cost on test images (95 %); None without test images.
    """

    calibration: Calibration
    seen: PolicyOutcome | None = None
    seen_intervals: OutcomeIntervals | None = None

    @property
    def budget(self) -> float:
        """The budget of the policy; NaN if it was made for another goal."""
        return self.calibration.policy.promise.budget


@dataclass(frozen=True, eq=False)
class CalibrationReport:
    """Some policies of one network, solved on the same images.

    Attributes:
        policies: the policies, cheapest first.
        exits: each exit alone, on the same images.
    """

    policies: Sequence[SolvedPolicy]
    exits: StaticExits

    @property
    def sentences(self) -> list[str]:
        """Sentences on what the tables do not show."""
        said = choice_sentences([solved.calibration for solved in self.policies], self.exits)
        return said if self.remark is None else [*said, self.remark]

    @property
    def remark(self) -> str | None:
        """A sentence on the budget beyond which accuracy no longer rises, for three or more policies; else None."""
        accuracies = np.array([solved.calibration.predicted_accuracy for solved in self.policies])
        if len(accuracies) < 3 or np.isnan(accuracies).any() or accuracies.argmax() == len(accuracies) - 1:
            return None
        scale = CostScale.of(self.exits.costs, self.exits.unit)
        best = [solved for solved in self.policies if solved.calibration.predicted_accuracy == accuracies.max()]
        budgets = [solved.budget for solved in best]
        on = "" if np.isnan(budgets).any() else f"from a budget of {scale.text(min(budgets))} on, "
        cost = scale.text(best[0].calibration.predicted_cost)
        return (
            f"On these validation images no policy is more accurate than the one of mean cost {cost} "
            f"({percent(accuracies.max())} %): {on}more budget gives no more accuracy."
        )


def calibration_report(
    calibrations: Sequence[Calibration],
    validation: ExitScores,
    test: ExitScores | None,
    costs: npt.NDArray[np.float64],
    unit: str,
) -> CalibrationReport:
    """Evaluate solved policies on test images, if there are any.

    Args:
        calibrations: calibrations of one network in one unit.
        validation: scores that the policies were solved on.
        test: scores of other images; None reports only the promises.
        costs: (K,) cumulative cost of each exit alone; the costs of a policy are in its metadata.
        unit: unit of the costs.

    Raises:
        UserError: if the test scores are of another network, or lack the scores that the policies compare.
    """
    ordered = sorted(calibrations, key=lambda one: one.predicted_cost)
    policies = [SolvedPolicy(one) if test is None else _see(one, test) for one in ordered]
    return CalibrationReport(policies, StaticExits(costs, unit, validation, test))


def _see(calibration: Calibration, test: ExitScores) -> SolvedPolicy:
    policy = calibration.policy
    costs = policy.promise.costs_of_images(test.executed)  # with the exits that it uses
    exits = policy.exits(test)
    intervals = outcome_intervals(exits, test.correct_at(exits), costs, policy.possible_exits)
    return SolvedPolicy(calibration, evaluate_policy(policy, test, costs), intervals)
