"""Policies with a guarantee: their risk relative to the last exit is at most eps."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from decimal import ROUND_CEILING, Context
from math import nan
from typing import Any

import numpy as np
import numpy.typing as npt

from ranet.calibration.bounds import binomial_p_value, hoeffding_bentkus_p_value, net_loss_p_value
from ranet.calibration.goals import BOUNDS, RISKS
from ranet.calibration.guarantees.threshold_walk import count_along, count_ever, steps_of_exits, threshold_grid
from ranet.calibration.policies.exit_policy import ExitPolicy
from ranet.calibration.policies.outcome import Costs, costs_of_images
from ranet.calibration.scores.exit_scores import ExitScores
from ranet.calibration.solvers.calibration import Calibration, Promises
from ranet.errors import UserError, require_known

MOST_IMAGES = 10**15
Counts = npt.NDArray[np.int64]


def calibrate_risk(
    scores: ExitScores,
    cost_per_exit: Costs,
    eps: float,
    delta: float | None = 0.1,
    *,
    risk: str = "accuracy",
    bound: str = "binomial",
    score: str = "confidence",
    unit: str = "",
    metadata: Mapping[str, Any] | None = None,
) -> Calibration:
    """Find the cheapest policy of one common threshold whose risk is at most eps with probability 1 - delta.

    The risk compares the policy with the last exit, on the population from which the calibration images are
    independent draws:

    - "accuracy": P(last exit right, policy wrong) - P(last exit wrong, policy right), the loss of top-1 accuracy;
    - "disagreement": P(policy and last exit answer differently), which needs no labels and is never smaller.

    The method is Learn then Test with fixed-sequence testing (Angelopoulos, Bates, Candès, Jordan and Lei, "Learn then
    Test: Calibrating Predictive Algorithms to Achieve Risk Control", Annals of Applied Statistics, 2025). Thresholds
    are tested in a fixed order, from cautious (every image runs to the last exit: the risk is 0) to bold (all images
    leave at the first exit). Each test is of the hypothesis that the risk is above eps, at level delta; the first that
    is not rejected ends the walk. If any rejection is wrong, then so is that of the first true hypothesis, which
    happens with probability at most delta. So the number of tests needs no correction. The last threshold that passes
    is the cheapest on any images, because with a lower common threshold no image leaves later.

    This is valid because the thresholds and their order (`threshold_grid`) are fixed before the images are seen. For
    the same reason, use other images for training, for the choice of the score and for the temperatures.

    With delta=None the risk is at most eps in expectation over the draw of the calibration images (Angelopoulos et al.,
    "Conformal Risk Control", ICLR 2024, theorem 1): the boldest threshold with (sum of losses + 1) / (n + 1) <= eps.
    The theorem needs losses that never fall towards bolder thresholds. So an image's loss stays 1 at all thresholds
    bolder than the first at which it is 1, and gains in accuracy do not count. The risk itself is at most this.

    Args:
        scores: scores of images that nothing else was fitted on; labelled for risk="accuracy".
        cost_per_exit: (K,) cumulative cost of each exit, or a `CostTable`. All exits are used: the guarantee would not
            hold if the same images chose them.
        eps: upper bound on the risk, in (0, 1); 0.01 is one image in a hundred.
        delta: probability that the bound fails, in (0, 1); None: the bound holds in expectation.
        risk: "accuracy" or "disagreement".
        bound: the p-value. "binomial" is exact for the disagreement; for the accuracy it is the difference of two exact
            bounds (`net_loss_p_value`). "hoeffding_bentkus" uses the mean loss (`hoeffding_bentkus_p_value`; for the
            accuracy the loss is moved from [-1, 1] to [0, 1]) and usually needs more images.
        score: score to compare with the threshold, see `ExitPolicy`.
        unit: unit of the costs.
        metadata: further entries for the policy file.

    Raises:
        UserError: if eps or delta is outside (0, 1), a name is unknown, the scores lack what the risk needs, or there
            are too few images for any threshold to pass (the message gives the smallest possible eps).

    Example:
        >>> rng = np.random.default_rng(0)
        >>> logits = rng.normal(size=(3, 2000, 10)) + 6 * np.eye(10)[np.arange(2000) % 10] * rng.random((2000, 1))
        >>> scores = ExitScores.from_logits(logits, np.arange(2000) % 10)
        >>> calibration = calibrate_risk(scores, [1.0, 2.0, 4.0], eps=0.05, delta=0.1)
        >>> calibration.risk < 0.05, calibration.p_value < 0.1, calibration.predicted_cost < 4.0
        (True, True, True)
    """
    guarantee = check_guarantee(eps, delta, scores.num_images, risk=risk, bound=bound)
    costs = costs_of_images(cost_per_exit, scores)
    lost, gained = _losses_and_gains(scores, risk)
    grid = threshold_grid(score, scores.num_exits)
    steps = steps_of_exits(scores.score(score), grid)
    losses, gains = count_along(steps, lost, len(grid)), count_along(steps, gained, len(grid))
    if delta is None:
        p_values = np.full(len(grid), nan)
        passed = guarantee.expected_at_most_eps(count_ever(steps, lost, len(grid)), scores.num_images)
    else:
        p_values = guarantee.p_values(losses, gains, scores.num_images)
        passed = p_values <= delta
    # The first step always passes: every image runs to the last exit, no image has a loss, and there are enough images.
    last = int((~passed).argmax()) - 1 if not passed.all() else len(grid) - 1
    empirical = float(losses[last] - gains[last]) / scores.num_images
    threshold = float(grid[last])
    kept = {**asdict(guarantee), "images": scores.num_images, "empirical_risk": empirical}
    none_leaves = scores.num_exits > 1 and bool((steps[:-1] > last).all())
    return Promises(scores, costs, score, unit, metadata).promise(
        np.full(scores.num_exits - 1, threshold, dtype=np.float32),
        family="risk",
        parameters={"threshold": threshold, "guarantee": kept},
        notices=(guarantee.nothing_passed(scores.num_images),) if none_leaves else (),
        p_value=float(p_values[last]),
    )


def observed_risk(policy: ExitPolicy, scores: ExitScores, risk: str) -> float:
    """Return the observed risk of a policy (`calibrate_risk`): net loss of accuracy, or share of answers that differ.

    Raises:
        UserError: if the risk is unknown, or the scores lack what it needs.
    """
    require_known("risk", risk, RISKS)
    lost, gained = _losses_and_gains(scores, risk)
    exits, images = policy.exits(scores), np.arange(scores.num_images)
    return float(lost[exits, images].mean() - gained[exits, images].mean())


def _losses_and_gains(scores: ExitScores, risk: str) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Return losses and gains, (K, N) each: whether leaving at this exit loses, or gains, against the last exit."""
    if risk == "accuracy":
        if not scores.has("correct"):
            raise UserError(
                "The loss of accuracy needs labels, and these scores have none: score labelled images, or choose the "
                "risk disagreement."
            )
        correct = scores.correct
        return correct[-1] & ~correct, correct & ~correct[-1]
    if not scores.has("prediction"):
        raise UserError(
            "The disagreement needs the predicted class of every exit, and these scores have none: add them as "
            "prediction, or choose the risk accuracy."
        )
    differs = scores.prediction != scores.prediction[-1]
    return differs, np.zeros_like(differs)


def check_guarantee(
    eps: float, delta: float | None, images: int, *, risk: str = "accuracy", bound: str = "binomial"
) -> Guarantee:
    """Return the guarantee that `calibrate_risk` would give, before there are scores; it takes the same arguments.

    Raises:
        UserError: if an argument is invalid, or there are too few images for this guarantee, even if none has a loss.
    """
    require_known("bound", bound, BOUNDS)
    if delta is None and bound != BOUNDS[0]:
        raise UserError(f"bound={bound} needs a delta: give one, or remove the bound for a risk in expectation.")
    require_known("risk", risk, RISKS)
    if not 0 < eps < 1:
        raise UserError(f"The bound on the risk eps must lie between 0 and 1, not {eps}.")
    if delta is not None and not 0 < delta < 1:
        raise UserError(
            f"The probability delta must lie between 0 and 1, not {delta}; use None for a risk in expectation."
        )
    guarantee = Guarantee(risk, eps, delta, "conformal" if delta is None else bound)
    guarantee.require_enough(images)
    return guarantee


@dataclass(frozen=True)
class Guarantee:
    """A guarantee on the risk, and the test that proves it."""

    risk: str
    eps: float
    delta: float | None
    bound: str

    def p_values(self, losses: Counts, gains: Counts, images: int) -> npt.NDArray[np.float64]:
        """Return the p-values of the hypotheses that the risk is above eps."""
        if self.bound == "hoeffding_bentkus":
            mean = (losses - gains) / images
            if self.risk == "accuracy":
                return hoeffding_bentkus_p_value((mean + 1) / 2, images, (self.eps + 1) / 2)
            return hoeffding_bentkus_p_value(mean, images, self.eps)
        if self.risk == "accuracy":
            return net_loss_p_value(losses, gains, images, self.eps)
        return binomial_p_value(losses, images, self.eps)

    def expected_at_most_eps(self, losses: Counts, images: int) -> npt.NDArray[np.bool_]:
        """Return whether conformal risk control accepts this number of monotone losses."""
        return (losses + 1) / (images + 1) <= self.eps

    def possible(self, images: int) -> bool:
        """Return whether this number of images would pass if none had a loss."""
        none = np.zeros(1, dtype=np.int64)
        if self.delta is None:
            return bool(self.expected_at_most_eps(none, images)[0])
        return bool(self.p_values(none, none, images)[0] <= self.delta)

    def require_enough(self, images: int) -> None:
        """Raise a UserError that gives the smallest possible eps if there are too few images."""
        if self.possible(images):
            return
        needed = bisect_left(range(MOST_IMAGES), True, lo=images, key=self.possible)
        parts = bisect_left(range(10**9), True, lo=1, key=lambda k: replace(self, eps=k / 1e9).possible(images))
        if parts < 10**9:
            rounded = float(Context(prec=3, rounding=ROUND_CEILING).create_decimal(parts).scaleb(-9))
            smallest = f"the smallest eps is {rounded if rounded < 1 else parts / 1e9}"
        else:
            smallest = "no eps is possible"
        raise UserError(
            f"With {_images(images)}{self._at_delta()} {smallest}: raise eps, or calibrate on at least "
            f"{_images(needed)} for the {self.risk} risk of eps={self.eps}."
        )

    def nothing_passed(self, images: int) -> str:
        """Return the notice for a policy under which no image leaves early."""
        return (
            f"Every image runs to the last exit: {_images(images)} cannot prove that a cheaper policy keeps the "
            f"{self.risk} risk at eps={self.eps}{self._at_delta()}. Raise eps, or calibrate on more images."
        )

    def _at_delta(self) -> str:
        return " in expectation" if self.delta is None else f" and delta={self.delta}"


def _images(number: int) -> str:
    return f"{number:,} image{'' if number == 1 else 's'}"
