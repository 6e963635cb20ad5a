"""Whether the policy spends where it is hard: exits, cost and accuracy by a size that the samples carry."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ranet.calibration.policies.exit_policy import ExitPolicy
from ranet.calibration.policies.outcome import checked_costs
from ranet.calibration.scores.exit_scores import ExitScores
from ranet.errors import UserError

Floats = npt.NDArray[np.float64]
MOST_BINS = 6


@dataclass(frozen=True, eq=False)
class DifficultyTable:
    """What a policy does to images of each size; S bins, of equal numbers of images where sizes allow.

    Attributes:
        low: (S,) the smallest size in the bin.
        high: (S,) the largest.
        images: (S,) how many there are.
        exit_shares: (S, K) where they left.
        mean_cost: (S,) in the unit of the costs.
        accuracy: (S,) top-1 fraction.
    """

    low: Floats
    high: Floats
    images: npt.NDArray[np.int64]
    exit_shares: Floats
    mean_cost: Floats
    accuracy: Floats


def difficulty_table(
    policy: ExitPolicy, scores: ExitScores, cost_per_exit: npt.ArrayLike, sizes: npt.ArrayLike, bins: int = MOST_BINS
) -> DifficultyTable:
    """Group the images by size and say of each group where it left, at what cost, and how accurate it was.

    Args:
        policy: decides who leaves where.
        scores: of the test images.
        cost_per_exit: (K,).
        sizes: (N,) any number that may make an image easy or hard, such as the height of the object in pixels.
        bins: at most so many groups; one for each size if there are no more sizes.

    Raises:
        UserError: if there is not one finite size for each image.
    """
    size = np.asarray(sizes, dtype=np.float64)
    if size.shape != (scores.num_images,) or not np.isfinite(size).all():
        raise UserError(f"There must be one size for each of the {scores.num_images} images, given: {size.shape}.")
    costs = checked_costs(cost_per_exit, scores.num_exits)
    exits = policy.exits(scores)
    correct = scores.correct[exits, np.arange(scores.num_images)]
    distinct = np.unique(size)
    # Edges are sizes that occur, so that no bin is empty.
    quantiles = np.quantile(size, np.arange(bins) / bins, method="inverted_cdf")
    edges = distinct if len(distinct) <= bins else np.unique(quantiles)
    group = np.searchsorted(edges, size, side="right") - 1
    members = [group == g for g in range(len(edges))]
    shares = np.array([np.bincount(exits[m], minlength=len(costs)) / m.sum() for m in members])
    return DifficultyTable(
        low=np.array([size[m].min() for m in members]),
        high=np.array([size[m].max() for m in members]),
        images=np.array([m.sum() for m in members]),
        exit_shares=shares,
        mean_cost=shares @ costs,
        accuracy=np.array([correct[m].mean() for m in members]),
    )
