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
    """A solved policy, and its results on test images."""

    calibration: Calibration  # the policy and its promise
    seen: PolicyOutcome | None = None  # outcome on test images; None without them
    # intervals of accuracy and mean cost on test images (95 %); None without test images.
    seen_intervals: OutcomeIntervals | None = None

    @property
    def budget(self) -> float:
        """The budget of the policy; NaN if it was made for another goal."""
        return self.calibration.policy.promise.budget


@dataclass(frozen=True, eq=False)
class CalibrationReport:
    """Some policies of one network, cheapest first, and each exit alone, on the same images."""

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


def used_exits_sentence(policies: Sequence[Calibration]) -> str:
    """Return a sentence about the exits that policies of one network use, and the gain of leaving out others.

    The gain is measured by cross-fitting: on images that thresholds were not solved on, at the same budget, with
    differences of cost priced in.
    """
    fewer = [one for one in policies if len(one.used_exits) < one.policy.num_exits]
    if not fewer:
        of = "Every policy uses all" if len(policies) > 1 else "The policy uses all"
        patient = policies[0].policy.score == "patience"
        because = "patience counts exits" if patient else "to leave any out did not pay by cross-fitting"
        return f"{of} exits, because {because}."
    if len(policies) == 1:
        return f"The policy uses {_exits(fewer[0])} alone{_worth(fewer[0])}."
    gains = [100 * one.verdict.gain for one in fewer if one.verdict is not None]
    span = f"{min(gains):.2f} to {max(gains):.2f}" if gains else ""
    worth = f", which by cross-fitting is worth {span} points of top-1 against using all" if gains else ""
    return f"{len(fewer)} of {len(policies)} policies leave exits out (an infinite threshold){worth}."


def _exits(of: Calibration) -> str:
    *others, last = (str(k + 1) for k in of.used_exits)
    return f"exits {', '.join(others)} and {last}" if others else f"exit {last}"


def _worth(of: Calibration) -> str:
    if of.verdict is not None:
        gain, error = 100 * of.verdict.gain, 100 * of.verdict.error
        return (
            f", which by cross-fitting is worth {gain:.2f} points of top-1 (standard error {error:.2f}) against using "
            "all exits at the same budget"
        )
    whole = of.used_exits == (of.policy.num_exits - 1,)
    return ", because the budget pays for the whole network in one piece" if whole else ""
