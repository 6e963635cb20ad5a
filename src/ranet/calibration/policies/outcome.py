"""What policies come to on scored images: accuracy, mean cost, and who left where."""

from __future__ import annotations

from dataclasses import dataclass
from math import nan

import numpy as np
import numpy.typing as npt

from ranet.calibration.policies.exit_policy import ExitPolicy
from ranet.calibration.scores.exit_scores import ExitScores
from ranet.errors import UserError

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PolicyOutcome:
    """What one policy comes to on N images.

    Attributes:
        accuracy: top-1, a fraction of all images; NaN where there are no labels.
        mean_cost: sum over exits of share times cumulative cost, in the unit of the costs.
        exit_shares: (K,) the fraction of the images that left at each exit.
        accuracy_per_exit: (K,) the top-1 accuracy of those that left there; NaN where nobody did.
    """

    accuracy: float
    mean_cost: float
    exit_shares: Floats
    accuracy_per_exit: Floats


@dataclass(frozen=True, eq=False)
class Outcomes:
    """What R policies come to: the attributes of `PolicyOutcome` with a first dimension of R."""

    accuracy: Floats
    mean_cost: Floats
    exit_shares: Floats
    accuracy_per_exit: Floats

    def __getitem__(self, index: int) -> PolicyOutcome:
        return PolicyOutcome(
            float(self.accuracy[index]),
            float(self.mean_cost[index]),
            self.exit_shares[index],
            self.accuracy_per_exit[index],
        )


def mean_cost(left: npt.NDArray[np.integer] | Floats, cost_per_exit: Floats) -> Floats:
    """(...) the mean cost where left (..., K) images left at each exit; the same sum to the last bit everywhere."""
    # Shares first: where everybody leaves at one exit, the mean is then its cost to the last bit.
    mean: Floats = (left / left.sum(axis=-1, keepdims=True) * cost_per_exit).sum(axis=-1)
    return mean


def evaluate_thresholds(
    thresholds: npt.NDArray[np.float32], scores: ExitScores, cost_per_exit: Floats, score: str = "confidence"
) -> Outcomes:
    """What R threshold policies come to on the same scores, all at once.

    An image leaves at the first exit where its score is at least the threshold. The shares are those seen on these
    images, and mean cost = sum_k share_k cost_k (Huang et al., ICLR 2018, budgeted batch classification).

    Args:
        thresholds: (R, K - 1).
        scores: K exits, N images.
        cost_per_exit: (K,) the cumulative cost of reaching and asking each exit.
        score: what is compared, see `ExitPolicy`.

    Returns:
        The outcomes; accuracies are NaN if the scores are of images without labels.

    Example:
        >>> scores = ExitScores.from_logits(np.float32([[[2, 0], [0, 0]], [[2, 0], [0, 2]]]), np.array([0, 1]))
        >>> outcomes = evaluate_thresholds(np.float32([[0.8], [0.0]]), scores, np.array([1.0, 3.0]))
        >>> outcomes.mean_cost, outcomes.accuracy
        (array([2., 1.]), array([1. , 0.5]))
    """
    policies, exits = len(thresholds), scores.num_exits
    left, right = np.empty((policies, exits)), np.empty((policies, exits))
    compared = scores.score(score)
    correct = scores.correct if scores.has("correct") else None
    here = np.ones((policies, scores.num_images), dtype=bool)
    for k in range(exits):
        leaves = here
        if k < exits - 1:
            leaves = here & (compared[k] >= thresholds[:, k, None])
            here = here & ~leaves
        left[:, k] = np.count_nonzero(leaves, axis=1)
        right[:, k] = nan if correct is None else np.count_nonzero(leaves & correct[k], axis=1)
    shares = left / scores.num_images
    accuracy_per_exit = np.divide(right, left, out=np.full_like(right, np.nan), where=left > 0)
    return Outcomes(right.sum(axis=1) / scores.num_images, mean_cost(left, cost_per_exit), shares, accuracy_per_exit)


def evaluate_policy(policy: ExitPolicy, scores: ExitScores, cost_per_exit: npt.ArrayLike) -> PolicyOutcome:
    """What a policy comes to on these scores; see `evaluate_thresholds` for the definition.

    Raises:
        UserError: if policy, scores and costs are not of the same number of exits, or as for `ExitPolicy.exits`.
    """
    policy.compared(scores)
    costs = checked_costs(cost_per_exit, scores.num_exits)
    return evaluate_thresholds(np.array([policy.thresholds], dtype=np.float32), scores, costs, policy.score)[0]


def checked_costs(cost_per_exit: npt.ArrayLike, num_exits: int) -> Floats:
    """The costs as (K,) float64.

    Raises:
        UserError: unless there is one finite cost of at least zero for each exit, each more than the one before.
    """
    try:
        costs = np.asarray(cost_per_exit, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise UserError(f"Costs must be one number for each exit, these are {cost_per_exit!r}.") from error
    if costs.shape != (num_exits,):
        raise UserError(
            f"There must be one cumulative cost for each of the {num_exits} exits, the costs given have shape "
            f"{costs.shape}."
        )
    if not (np.isfinite(costs).all() and (costs >= 0).all()):
        raise UserError(f"Costs must be finite and not negative, these are {costs.tolist()}.")
    if not (np.diff(costs) > 0).all():
        raise UserError(
            f"Costs are cumulative, so each exit must cost more than the one before; these are {costs.tolist()}."
        )
    return costs
