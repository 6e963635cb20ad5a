"""Outcomes of policies on scored images: accuracy, mean cost and exit shares."""

from __future__ import annotations

from dataclasses import dataclass
from math import nan

import numpy as np
import numpy.typing as npt

from ranet.calibration.policies.exit_policy import ExitPolicy
from ranet.calibration.scores.exit_scores import ExitScores
from ranet.cost.table import CostTable, ImageCosts, checked_costs, mean_cost
from ranet.errors import UserError

Floats = npt.NDArray[np.float64]
#: Costs as functions take them: one cumulative cost for each exit, a table, or what each image costs.
Costs = npt.ArrayLike | CostTable | ImageCosts


@dataclass(frozen=True, eq=False)
class PolicyOutcome:
    """The outcome of one policy on N images.

    Attributes:
        accuracy: top-1 accuracy, a fraction of all images; NaN without labels.
        mean_cost: mean cost of an image, in the unit of the costs.
        exit_shares: (K,) fraction of the images that left at each exit.
        accuracy_per_exit: (K,) top-1 accuracy of the images that left at each exit; NaN where none did.
    """

    accuracy: float
    mean_cost: float
    exit_shares: Floats
    accuracy_per_exit: Floats


@dataclass(frozen=True, eq=False)
class Outcomes:
    """The outcomes of R policies: the attributes of `PolicyOutcome` with a first dimension of R."""

    accuracy: Floats
    mean_cost: Floats
    exit_shares: Floats
    accuracy_per_exit: Floats


def costs_of_images(costs: Costs, scores: ExitScores) -> ImageCosts:
    """Return what the images of these scores cost at each exit.

    Raises:
        UserError: if costs and scores have other exits, or it is not known which optional parts were executed.
    """
    if isinstance(costs, ImageCosts):
        return costs
    if not isinstance(costs, CostTable):
        return ImageCosts(checked_costs(costs, scores.num_exits))
    if costs.num_exits != scores.num_exits:
        raise UserError(
            f"The costs have {costs.num_exits} exits and the scores {scores.num_exits}: both must be of the same "
            "network."
        )
    return costs.of_images(scores.executed)


def evaluate_thresholds(
    thresholds: npt.NDArray[np.float32], scores: ExitScores, cost_per_exit: Costs, score: str = "confidence"
) -> Outcomes:
    """Return the outcomes of R threshold policies on the same scores.

    An image leaves at the first exit where its score is at least the threshold. The shares are those of these images,
    and mean cost = sum_k share_k cost_k (Huang et al., ICLR 2018, budgeted batch classification).

    Args:
        thresholds: (R, K - 1) thresholds.
        scores: scores of K exits and N images.
        cost_per_exit: (K,) cumulative cost of reaching and running each exit, or other `Costs`.
        score: score to compare, see `ExitPolicy`.

    Example:
        >>> scores = ExitScores.from_logits(np.float32([[[2, 0], [0, 0]], [[2, 0], [0, 2]]]), np.array([0, 1]))
        >>> outcomes = evaluate_thresholds(np.float32([[0.8], [0.0]]), scores, np.array([1.0, 3.0]))
        >>> outcomes.mean_cost, outcomes.accuracy
        (array([2., 1.]), array([1. , 0.5]))
    """
    policies, exits = len(thresholds), scores.num_exits
    compared, costs = scores.score(score), costs_of_images(cost_per_exit, scores)
    correct = scores.correct if scores.has("correct") else None
    added = np.zeros(policies)
    left, right = np.empty((policies, exits)), np.empty((policies, exits))
    here = np.ones((policies, scores.num_images), dtype=bool)
    for k in range(exits):  # all policies at once: twice as fast as one after the other
        leaves = here
        if k < exits - 1:
            leaves = here & (compared[k] >= thresholds[:, k, None])
            here = here & ~leaves
        left[:, k] = np.count_nonzero(leaves, axis=1)
        if costs.added is not None:
            added += leaves @ costs.added[k]
        right[:, k] = nan if correct is None else np.count_nonzero(leaves & correct[k], axis=1)
    per_exit = np.divide(right, left, out=np.full_like(right, np.nan), where=left > 0)
    mean = mean_cost(left, costs.fixed) + added / scores.num_images
    return Outcomes(right.sum(axis=1) / scores.num_images, mean, left / scores.num_images, per_exit)


def evaluate_policy(policy: ExitPolicy, scores: ExitScores, cost_per_exit: Costs) -> PolicyOutcome:
    """Return the outcome of a policy on these scores; see `evaluate_thresholds` for the definition.

    Raises:
        UserError: if policy, scores and costs have different numbers of exits, and as for `ExitPolicy.exits`.
    """
    return _outcome(policy.exits(scores), scores, costs_of_images(cost_per_exit, scores))


def _outcome(exits: npt.NDArray[np.int64], scores: ExitScores, costs: ImageCosts) -> PolicyOutcome:
    """Return the outcome if images leave at these exits (N,)."""
    number, images, correct = scores.num_exits, scores.num_images, scores.correct_at(exits)
    left = np.bincount(exits, minlength=number)
    right = np.full(number, nan) if correct is None else np.bincount(exits[correct], minlength=number)
    per_exit = np.divide(right, left, out=np.full(number, nan), where=left > 0)
    return PolicyOutcome(float(right.sum() / images), costs.mean(exits), left / images, per_exit)
