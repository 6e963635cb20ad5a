"""The report of ranet calibrate: solved policies beside each exit alone, and sentences on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from ranet.calibration.policies.intervals import Interval, OutcomeIntervals, outcome_intervals
from ranet.calibration.policies.outcome import PolicyOutcome, evaluate_policy
from ranet.calibration.scores.exit_scores import ExitScores
from ranet.calibration.solvers.budget import alone_name
from ranet.calibration.solvers.calibration import Calibration
from ranet.cost.units import CostScale
from ranet.evaluation.cells import interval_of, percent

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class StaticExits:
    """Cost and accuracy of stopping all images at one exit, for each of K exits."""

    costs: Floats  # (K,) cost of each exit as the only one
    unit: str  # unit of the costs
    validation: ExitScores  # scores of the images that policies are solved on
    test: ExitScores | None = None  # scores of other images; None without them

    @cached_property
    def top1(self) -> dict[str, Floats]:
        """(K,) top-1 fractions by split, "validation" or "test"; only of splits with labels."""
        splits = {"validation": self.validation, "test": self.test}
        labelled = {name: scores for name, scores in splits.items() if scores is not None and scores.has("correct")}
        return {name: scores.correct.mean(axis=1) for name, scores in labelled.items()}

    def accuracy(self, split: str) -> Floats:
        """Return (K,) top-1 fractions; NaN for a split without labels."""
        return self.top1.get(split, np.full(len(self.costs), np.nan))

    def interval(self, split: str, exit: int) -> Interval | None:
        """Return the interval of an exit's accuracy (95 %); None for a split without labels."""
        scores = self.test if split == "test" else self.validation
        return None if scores is None else interval_of(float(self.accuracy(split)[exit]), scores.num_images)

    @property
    def metadata(self) -> dict[str, Any]:
        """The entries of policy files: cost of each exit, and its accuracy on validation with its interval."""
        return {
            "cost": self.costs.tolist(),
            "accuracy": self.accuracy("validation").tolist(),
            "accuracy_interval": [self.interval("validation", k) for k in range(len(self.costs))],
        }

    def best_against(self, one: Calibration) -> int | None:
        """Return the exit that beats a policy on validation, within its cost or its budget; None if none does."""
        worth = list(zip(self.accuracy("validation"), -self.costs, strict=True))
        most = np.fmax(one.predicted_cost, one.policy.promise.budget)
        affordable = [k for k in range(len(worth)) if self.costs[k] <= most]
        best = max(affordable, key=lambda k: worth[k], default=None)
        beats = best is not None and worth[best] > (one.predicted_accuracy, -one.predicted_cost)
        return best if beats else None


@dataclass(frozen=True, eq=False)
class SolvedPolicy:
    """A solved policy, and its results on test images."""

    calibration: Calibration  # the policy and its promise
    seen: PolicyOutcome | None = None  # outcome on test images; None without them
    # Intervals of accuracy and mean cost on test images (95 %); None without test images.
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
    """Evaluate solved policies of one network on test images; None reports only the promises.

    The (K,) costs are those of each exit alone; the costs of a policy are in its metadata.

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


def choice_sentences(solved: Sequence[Calibration], exits: StaticExits) -> list[str]:
    """Return sentences on alternatives chosen instead of a family's policy, and on policies that lose to one exit.

    Args:
        solved: calibrations of one network.
        exits: exits of the same network, on the same validation images.
    """
    chosen = [one for one in solved if one.instead is not None]
    lost = [(one, exit) for one in solved if (exit := exits.best_against(one)) is not None]
    if len(solved) == 1:
        return [*(_chosen(one, exits) for one in chosen), *(_lost(one, exit, exits) for one, exit in lost)]
    sentences = []
    if chosen:
        counted = Counter(str(one.instead.chosen) for one in chosen if one.instead is not None)
        names = ", ".join(f"{name} ({count})" for name, count in counted.most_common())
        sentences.append(
            f"At {len(chosen)} of {len(solved)} budgets another policy is chosen than the one that spends the budget, "
            f"because on the validation images it is at least as accurate and costs no more: {names}; "
            "alternatives=false spends the budgets."
        )
    if lost:
        named = " or ".join(map(alone_name, sorted({exit for _, exit in lost})))
        sentences.append(
            f"{len(lost)} of {len(solved)} policies lose to {named}: on the validation images it is at least as "
            "accurate and costs no more."
        )
    return sentences


def _chosen(one: Calibration, exits: StaticExits) -> str:
    instead, scale = one.instead, CostScale.of(exits.costs, exits.unit)
    assert instead is not None
    low, high = (100 * end for end in instead.interval)
    chance = " that chance can explain" if low <= 0 else ""
    return (
        f"{instead.chosen[0].upper()}{instead.chosen[1:]} is chosen: it answers {percent(one.predicted_accuracy)} % of "
        f"the validation images rightly at a cost of {scale.text(one.predicted_cost)}, and the "
        f"{one.policy.promise.family} policy that spends the budget {percent(instead.accuracy)} % at "
        f"{scale.text(instead.cost)} (a difference of {100 * instead.gain:.2f} points{chance}, 95 % interval "
        f"{low:+.2f} to {high:+.2f}); alternatives=false spends the budget."
    )


def _lost(one: Calibration, exit: int, exits: StaticExits) -> str:
    scale, name = CostScale.of(exits.costs, exits.unit), alone_name(exit)
    but = "; the guarantee is proven for the policy alone" if one.policy.promise.guarantee else ""
    return (
        f"{name[0].upper()}{name[1:]} is better: it answers {percent(exits.accuracy('validation')[exit])} % of the "
        f"validation images rightly at a cost of {scale.text(exits.costs[exit])}, and this policy "
        f"{percent(one.predicted_accuracy)} % at {scale.text(one.predicted_cost)}{but}."
    )
