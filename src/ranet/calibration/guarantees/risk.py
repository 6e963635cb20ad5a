"""Policies with a guarantee: cheap, and not worse than the last exit by more than eps."""

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
from ranet.calibration.policies.outcome import checked_costs
from ranet.calibration.policies.promise import Calibration, promise
from ranet.calibration.scores.exit_scores import ExitScores
from ranet.errors import UserError, unknown_name

CONFORMAL = "conformal"
MOST_IMAGES = 10**15
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False, kw_only=True)
class RiskCalibration(Calibration):
    """A policy with a guarantee, and what it promises besides.

    Attributes:
        risk: what was seen on the calibration images: the accuracy lost, net, or the share of other answers.
        eps: what the risk on all images does not exceed,
        delta: but for a probability of at most this over the draw of the calibration images; None: in expectation.
        threshold: of all exits; infinite if everybody goes to the last.
        p_value: of the hypothesis that the policy's risk is above eps; NaN without delta.
    """

    risk: float
    eps: float
    delta: float | None
    threshold: float
    p_value: float


def calibrate_risk(
    scores: ExitScores,
    cost_per_exit: npt.ArrayLike,
    eps: float,
    delta: float | None = 0.1,
    *,
    risk: str = "accuracy",
    bound: str = "binomial",
    score: str = "confidence",
    unit: str = "",
    metadata: Mapping[str, Any] | None = None,
) -> RiskCalibration:
    """Find the cheapest policy of one common threshold whose risk is at most eps with probability 1 - delta.

    The risk is of leaving early instead of asking the last exit, on images like the calibration images, of which these
    are independent draws:

    - "accuracy": P(last exit right, the policy wrong) - P(last exit wrong, the policy right), the top-1 accuracy lost;
    - "disagreement": P(the policy answers other than the last exit), which needs no labels and is never smaller.

    Learn then Test with fixed-sequence testing (Angelopoulos, Bates, Candès, Jordan and Lei, "Learn then Test:
    Calibrating Predictive Algorithms to Achieve Risk Control", Annals of Applied Statistics, 2025): thresholds are
    tested in a fixed order from cautious (nobody leaves: the risk is 0) to bold (everybody leaves at the first exit),
    each for the hypothesis that its risk is above eps, at level delta, until the first that is not rejected. If any of
    those before it was rejected wrongly, then so was the first true hypothesis in the order, and that happens with a
    probability of at most delta. So the number of tests is not corrected for, and a fine grid costs nothing: it only
    follows the risk more closely. Of the thresholds that pass the last is returned, the cheapest on any images, because
    a lower common threshold sends no image further.

    This holds because thresholds and order (`threshold_grid`) are fixed before the images are seen: a family that was
    fitted to the same images, such as the optimal thresholds of each budget, would be chosen for errors that these
    images happen not to show. So they must have no part in training, in the choice of the score, or in the temperatures
    either, which are to be fitted on other images.

    With delta=None the risk is at most eps in expectation over the draw of the calibration images (Angelopoulos et al.,
    "Conformal Risk Control", ICLR 2024, theorem 1): the boldest threshold with (sum of losses + 1) / (n + 1) <= eps.
    The theorem needs losses that never fall towards bold thresholds. So the loss of an image counts as 1 from the most
    cautious threshold on at which it is 1, and gains in accuracy do not count; the risk itself is at most that.

    Args:
        scores: on images that nothing else was fitted on; labelled, for risk="accuracy".
        cost_per_exit: (K,) cumulative cost of each exit.
        eps: the risk that is tolerated, in (0, 1); 0.01 is one image in a hundred.
        delta: the probability that it is exceeded nevertheless, in (0, 1); None for the expectation.
        risk: "accuracy" or "disagreement".
        bound: the p-value. "binomial" is exact for the disagreement, and for the accuracy the difference of two exact
            bounds (`net_loss_p_value`); "hoeffding_bentkus" is of the mean loss (`hoeffding_bentkus_p_value`, for
            the accuracy of the loss moved from [-1, 1] to [0, 1]), and as a rule asks for more images.
        score: what is compared, see `ExitPolicy`.
        unit: of the costs.
        metadata: further entries for the policy file, such as the network's name.

    Raises:
        UserError: for eps or delta outside (0, 1), an unknown name, scores that lack what the risk needs, or too few
            images for any threshold to pass (with the smallest eps that they could promise).

    Example:
        >>> rng = np.random.default_rng(0)
        >>> logits = rng.normal(size=(3, 2000, 10)) + 6 * np.eye(10)[np.arange(2000) % 10] * rng.random((2000, 1))
        >>> scores = ExitScores.from_logits(logits, np.arange(2000) % 10)
        >>> calibration = calibrate_risk(scores, [1.0, 2.0, 4.0], eps=0.05, delta=0.1)
        >>> calibration.risk < 0.05, calibration.p_value < 0.1, calibration.predicted_cost < 4.0
        (True, True, True)
    """
    guarantee = check_guarantee(eps, delta, scores.num_images, risk=risk, bound=bound)
    costs = checked_costs(cost_per_exit, scores.num_exits)
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
    # The first step always passes: nobody leaves, so nobody has a loss, and there are enough images for that.
    last = int((~passed).argmax()) - 1 if not passed.all() else len(grid) - 1
    empirical = float(losses[last] - gains[last]) / scores.num_images
    threshold = float(grid[last])
    kept = {**asdict(guarantee), "images": scores.num_images, "empirical_risk": empirical}
    nobody_leaves = scores.num_exits > 1 and bool((steps[:-1] > last).all())
    calibration = promise(
        np.full(scores.num_exits - 1, threshold, dtype=np.float32),
        scores,
        costs,
        family="risk",
        score=score,
        parameters={"threshold": threshold, "guarantee": kept},
        unit=unit,
        metadata=metadata,
        notices=(guarantee.nothing_passed(scores.num_images),) if nobody_leaves else (),
    )
    return RiskCalibration(
        **vars(calibration), risk=empirical, eps=eps, delta=delta, threshold=threshold, p_value=float(p_values[last])
    )


def observed_risk(policy: ExitPolicy, scores: ExitScores, risk: str) -> float:
    """The risk that a policy shows on images: the net share of top-1 lost, or the share of other answers.

    Args:
        policy: any.
        scores: of the images, with the policy's temperatures.
        risk: "accuracy" or "disagreement", see `calibrate_risk`.

    Raises:
        UserError: for an unknown risk, or scores that lack what it needs.
    """
    if risk not in RISKS:
        raise unknown_name("risk", risk, RISKS)
    lost, gained = _losses_and_gains(scores, risk)
    exits, images = policy.exits(scores), np.arange(scores.num_images)
    return float(lost[exits, images].mean() - gained[exits, images].mean())


def _losses_and_gains(scores: ExitScores, risk: str) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """(K, N) each: whether it costs, or gains, to leave at this exit instead of the last."""
    if risk == "accuracy":
        if not scores.has("correct"):
            raise UserError(
                "The loss of accuracy needs labels, and these scores are of images without them: score labelled "
                "images, or choose the risk disagreement."
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
    """What `calibrate_risk` would promise, before there are scores; its arguments.

    Raises:
        UserError: if it cannot be promised on so many images, whatever they show.
    """
    guarantee = Guarantee(risk, eps, delta, _bound_in_use(bound, delta))
    guarantee.require_enough(images)
    return guarantee


def _bound_in_use(bound: str, delta: float | None) -> str:
    if bound not in BOUNDS:
        raise unknown_name("bound", bound, BOUNDS)
    if delta is None and bound != BOUNDS[0]:
        raise UserError(f"The bound {bound} goes with a delta: without one, the risk is controlled in expectation.")
    return CONFORMAL if delta is None else bound


@dataclass(frozen=True)
class Guarantee:
    """What is promised, and what passes as a proof of it."""

    risk: str
    eps: float
    delta: float | None
    bound: str

    def __post_init__(self) -> None:
        if self.risk not in RISKS:
            raise unknown_name("risk", self.risk, RISKS)
        if not 0 < self.eps < 1:
            raise UserError(f"The tolerated risk eps must lie between 0 and 1, not {self.eps}.")
        if self.delta is not None and not 0 < self.delta < 1:
            raise UserError(
                f"The probability delta must lie between 0 and 1, not {self.delta}; None is for a risk in expectation."
            )

    def p_values(self, losses: Counts, gains: Counts, images: int) -> npt.NDArray[np.float64]:
        """Of the hypotheses that the risk is above eps."""
        if self.bound == "hoeffding_bentkus":
            mean = (losses - gains) / images
            if self.risk == "accuracy":
                return hoeffding_bentkus_p_value((mean + 1) / 2, images, (self.eps + 1) / 2)
            return hoeffding_bentkus_p_value(mean, images, self.eps)
        if self.risk == "accuracy":
            return net_loss_p_value(losses, gains, images, self.eps)
        return binomial_p_value(losses, images, self.eps)

    def expected_at_most_eps(self, losses: Counts, images: int) -> npt.NDArray[np.bool_]:
        """Whether conformal risk control lets this many monotone losses pass."""
        return (losses + 1) / (images + 1) <= self.eps

    def possible(self, images: int) -> bool:
        """Whether this many images pass if not one of them has a loss."""
        none = np.zeros(1, dtype=np.int64)
        if self.delta is None:
            return bool(self.expected_at_most_eps(none, images)[0])
        return bool(self.p_values(none, none, images)[0] <= self.delta)

    def require_enough(self, images: int) -> None:
        """Raise a UserError, with the smallest eps, unless these images could prove anything."""
        if self.possible(images):
            return
        needed = bisect_left(range(MOST_IMAGES), True, lo=images, key=self.possible)
        parts = bisect_left(range(10**9), True, lo=1, key=lambda k: replace(self, eps=k / 1e9).possible(images))
        if parts < 10**9:
            rounded = float(Context(prec=3, rounding=ROUND_CEILING).create_decimal(parts).scaleb(-9))
            smallest = f"the smallest eps is {rounded if rounded < 1 else parts / 1e9}"
        else:
            smallest = "no eps can be promised"
        raise UserError(
            f"With {_images(images)}{self._at_delta()} {smallest}: tolerate more, or calibrate on at least "
            f"{_images(needed)} for the {self.risk} risk of eps={self.eps}."
        )

    def nothing_passed(self, images: int) -> str:
        """The notice for a policy by which nobody leaves early."""
        return (
            f"Everybody goes to the last exit: on {_images(images)} no cheaper policy is proven to keep the "
            f"{self.risk} risk of eps={self.eps}{self._at_delta()}, so tolerate more or calibrate on more images."
        )

    def _at_delta(self) -> str:
        return " in expectation" if self.delta is None else f" and delta={self.delta}"


def _images(number: int) -> str:
    return f"{number:,} image{'' if number == 1 else 's'}"
