"""Each exit alone, the baseline of every policy, and sentences for `ranet calibrate`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ranet.calibration.policies.intervals import Interval
from ranet.calibration.scores.exit_scores import ExitScores
from ranet.calibration.solvers.budget import alone_name
from ranet.calibration.solvers.calibration import Calibration
from ranet.cost.units import CostScale
from ranet.evaluation.cells import interval_of, percent

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class StaticExits:
    """Cost and accuracy of stopping all images at one exit, for each of K exits.

    Attributes:
        costs: (K,) cost of each exit as the only one.
        unit: unit of the costs.
        top1: (K,) top-1 fractions by split: "validation" and, if there are test images, "test"; only labelled splits.
        images: number of images of each of these splits.
    """

    costs: Floats
    unit: str
    top1: Mapping[str, Floats]
    images: Mapping[str, int]

    @classmethod
    def of(cls, costs: Floats, unit: str, validation: ExitScores, test: ExitScores | None = None) -> StaticExits:
        """Measure each exit on these images."""
        splits = {"validation": validation} | ({} if test is None else {"test": test})
        labelled = {split: scores for split, scores in splits.items() if scores.has("correct")}
        top1 = {split: scores.correct.mean(axis=1) for split, scores in labelled.items()}
        return cls(costs, unit, top1, {split: scores.num_images for split, scores in labelled.items()})

    def accuracy(self, split: str) -> Floats:
        """Return (K,) top-1 fractions; NaN for a split without labels."""
        return self.top1.get(split, np.full(len(self.costs), np.nan))

    def interval(self, split: str, exit: int) -> Interval | None:
        """Return the interval of an exit's accuracy (95 %); None for a split without labels."""
        return interval_of(float(self.accuracy(split)[exit]), self.images.get(split, 0))

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
        beats = [
            k
            for k, (accuracy, _) in enumerate(worth)
            if self.costs[k] <= most and accuracy >= one.predicted_accuracy
            if worth[k] > (one.predicted_accuracy, -one.predicted_cost)
        ]
        return max(beats, key=lambda k: worth[k], default=None)


def choice_sentences(solved: Sequence[Calibration], exits: StaticExits) -> list[str]:
    """Return sentences on alternatives chosen instead of a family's policy, and on policies that lose to one exit.

    Args:
        solved: calibrations of one network.
        exits: exits of the same network, on the same validation images.
    """
    chosen = [one for one in solved if one.instead is not None]
    lost = {i: exit for i, one in enumerate(solved) if (exit := exits.best_against(one)) is not None}
    sentences = []
    if len(solved) == 1:
        sentences += [_chosen(one, exits) for one in chosen]
        sentences += [_lost(solved[i], exit, exits) for i, exit in lost.items()]
        return sentences
    if chosen:
        counted = Counter(str(one.instead.chosen) for one in chosen if one.instead is not None)
        names = ", ".join(f"{name} ({count})" for name, count in counted.most_common())
        sentences.append(
            f"At {len(chosen)} of {len(solved)} budgets another policy is chosen than the one that spends the budget, "
            f"because on the validation images it is at least as accurate and costs no more: {names}; "
            "alternatives=false spends the budgets."
        )
    if lost:
        named = " or ".join(alone_name(exit) for exit in sorted(set(lost.values())))
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
