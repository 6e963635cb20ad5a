"""Drift, measured without labels: the change of exit shares, scores and mean cost since calibration."""

from __future__ import annotations

from dataclasses import dataclass
from math import nan

import numpy as np
import numpy.typing as npt

from ranet.calibration.policies.distribution import bin_counts, stored_distribution
from ranet.calibration.policies.exit_policy import ExitPolicy
from ranet.calibration.policies.intervals import FEW, Interval, outcome_intervals
from ranet.calibration.scores.exit_scores import ExitScores
from ranet.errors import UserError
from ranet.evaluation.cells import p_text, percent
from ranet.evaluation.policies.differences import Difference
from ranet.evaluation.policies.homogeneity import (
    PSI_LARGE,
    PSI_SOME,
    Homogeneity,
    holm,
    homogeneity,
    population_stability_index,
    superiority,
    total_variation,
)
from ranet.evaluation.policies.promise_and_truth import cost_difference

ALPHA = 0.01
SLIGHT = 0.05  # share of the images that leave elsewhere


@dataclass(frozen=True)
class ScoreDrift:
    """The change of one exit's scores, over all images, whether they leave there or not."""

    test: Homogeneity  # test of homogeneity over the bins stored in the policy
    corrected_p: float  # p-value of the test after Holm's correction for the number of exits
    stability_index: float  # `population_stability_index`
    # Probability that a seen image scores higher than a calibration image; below 0.5 the exit is less sure than then.
    superiority: float


@dataclass(frozen=True, eq=False)
class DriftReport:
    """The changes since calibration.

    Attributes:
        policy: the policy; its ``promise`` has the results at calibration, and unit and budget.
        images: number of images seen now.
        shares: (K,) exit shares now.
        share_test: test of homogeneity of the exit shares at calibration and now.
        share_distance: `total_variation` of these exit shares.
        scores: drift of the scores of each exit.
        cost: mean cost now.
        cost_interval: interval of the mean cost now (95 %).
        cost_difference: mean cost now minus at calibration, with the sampling error of both.
        cost_per_exit: (K,) cumulative cost of each exit.
    """

    policy: ExitPolicy
    images: int
    shares: npt.NDArray[np.float64]
    share_test: Homogeneity
    share_distance: float
    scores: tuple[ScoreDrift, ...]
    cost: float
    cost_interval: Interval
    cost_difference: Difference
    cost_per_exit: npt.NDArray[np.float64]

    @property
    def shares_shifted(self) -> bool:
        """Whether chance alone gives such a change of the exit shares in less than 1 % of cases."""
        return self.share_test.p_value < ALPHA

    @property
    def cost_shifted(self) -> bool:
        """Whether chance alone gives such a change of the mean cost in less than 1 % of cases."""
        return self.cost_difference.p_value < ALPHA

    @property
    def drifted_exits(self) -> tuple[int, ...]:
        """The exits, 0..K-1, whose scores have drifted; without drift there is one in less than 1 % of cases."""
        return tuple(k for k, drift in enumerate(self.scores) if drift.corrected_p < ALPHA)

    @property
    def drifted(self) -> bool:
        """Whether shares, scores or cost have drifted; without drift this is true in at most 3 % of cases."""
        return self.shares_shifted or self.cost_shifted or bool(self.drifted_exits)

    @property
    def over_budget_percent(self) -> float:
        """The mean cost now minus the budget, in percent of the budget; NaN without a budget."""
        budget = self.policy.promise.budget
        return 100 * (self.cost / budget - 1) if budget > 0 else nan

    @property
    def verdict(self) -> str:
        """The conclusion in one sentence."""
        if not self.drifted:
            few = "; so few could only show a large one" if self.images < FEW else ""
            return f"No drift seen: images ({self.images:,}) are like those of calibration, up to chance{few}."
        return f"Drift: {'; '.join(part for part in (self._shares(), self._scores(), self._costs()) if part)}."

    def _shares(self) -> str:
        if self.shares_shifted:
            slightly = " slightly" if self.share_distance < SLIGHT else ""
            return (
                f"exit shares have shifted{slightly} ({percent(self.share_distance)} % of the images leave elsewhere)"
            )
        if self.cost_shifted:
            return f"images leave {'later' if self.cost_difference.value > 0 else 'earlier'} on the whole"
        return "exit shares are as promised, up to chance"

    def _scores(self) -> str:
        drifted = self.drifted_exits
        if not drifted:
            return ""
        numbers = ", ".join(str(k + 1) for k in drifted)
        where = "all exits" if len(drifted) == len(self.scores) else f"exit{'s' if len(drifted) > 1 else ''} {numbers}"
        worst = max((self.scores[k] for k in drifted), key=lambda drift: drift.stability_index)
        index, surer = worst.stability_index, "surer" if worst.superiority > 0.5 else "less sure"
        reading = "a little" if index < PSI_SOME else "somewhat" if index <= PSI_LARGE else "much"
        return f"scores have drifted {reading} at {where} ({surer}; stability index up to {index:.2g})"

    def _costs(self) -> str:
        # One criterion for both, or the sentence could say that no image leaves elsewhere but the cost has changed.
        if not (self.cost_difference.significant if self.shares_shifted else self.cost_shifted):
            return "they cost what was promised, up to chance"
        change, over = self.cost_difference.in_percent.value, self.over_budget_percent
        text = f"images cost {abs(change):.1f} % {'more' if change > 0 else 'less'} than promised"
        return f"{text} and {over:.1f} % more than the budget" if over > 0 else text

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences on what the table does not show."""
        low, high = self.cost_difference.in_percent.interval
        budget = "" if np.isnan(self.over_budget_percent) else f", {self.over_budget_percent:+.2f} % against the budget"
        return (
            f"Exit shares: chi-square {self.share_test.statistic:.1f} with {self.share_test.degrees} degrees of "
            f"freedom, p {p_text(self.share_test.p_value)}; {percent(self.share_distance)} % leave elsewhere.",
            f"Mean cost: {self.cost_difference.in_percent.value:+.2f} % of what was promised (95 % interval "
            f"{low:+.2f} to {high:+.2f}){budget}.",
            "The accuracy of the policy on these images cannot be measured without labels.",
        )


def measure_drift(policy: ExitPolicy, scores: ExitScores) -> DriftReport:
    """Compare images without labels with the calibration of a policy.

    Exit shares and the scores of each exit are compared by chi-square tests of two samples (`homogeneity`), the mean
    cost by a permutation test (`mean_difference`). All three test whether the images may come from the same
    distribution as the calibration images. They do not measure accuracy, which needs labels. The scores must have the
    policy's temperatures.

    Raises:
        UserError: if the policy does not store its calibration results, and as for `ExitPolicy.exits`.

    Example:
        >>> from ranet.calibration import calibrate
        >>> rng = np.random.default_rng(0)
        >>> logits, labels = rng.normal(size=(3, 2000, 10)), rng.integers(10, size=1000)
        >>> policy = calibrate(ExitScores.from_logits(logits[:, :1000], labels), [1.0, 2.0, 4.0], budget=2.5).policy
        >>> measure_drift(policy, ExitScores.from_logits(logits[:, 1000:])).verdict
        'No drift seen: images (1,000) are like those of calibration, up to chance.'
        >>> measure_drift(policy, ExitScores.from_logits(0.7 * logits[:, 1000:])).drifted_exits
        (0, 1, 2)
    """
    compared, exits = policy.compared(scores), policy.exits(scores)
    distribution, promise = stored_distribution(policy), policy.promise
    costs = promise.costs_of_images(scores.executed)
    counts, difference = promise.exit_counts, cost_difference(promise, exits, costs, policy.possible_exits)
    if counts is None or difference is None:
        raise UserError(
            "The policy does not store how many calibration images left at each exit (predicted.images and "
            "predicted.exit_shares), so drift cannot be measured: make the policy with ranet calibrate."
        )
    now = np.bincount(exits, minlength=policy.num_exits)
    binned = [
        (np.array(stored["counts"]), bin_counts(row, stored["edges"]))
        for row, stored in zip(compared, distribution, strict=True)
    ]
    tests = [homogeneity(then, seen) for then, seen in binned]
    corrected = holm([test.p_value for test in tests])
    drifts = [
        ScoreDrift(test, p, population_stability_index(then, seen), superiority(then, seen))
        for test, p, (then, seen) in zip(tests, corrected, binned, strict=True)
    ]
    return DriftReport(
        policy=policy,
        images=scores.num_images,
        shares=now / scores.num_images,
        share_test=homogeneity(counts, now),
        share_distance=total_variation(counts, now),
        scores=tuple(drifts),
        cost=costs.mean(exits),
        cost_interval=outcome_intervals(exits, None, costs, policy.possible_exits).cost,
        cost_difference=difference,
        cost_per_exit=costs.means,
    )
