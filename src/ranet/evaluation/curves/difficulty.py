"""Exits, cost and accuracy by the size of the images: whether a policy spends more on hard images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ranet.calibration.policies.exit_policy import ExitPolicy
from ranet.calibration.policies.outcome import Costs, costs_of_images
from ranet.calibration.scores.exit_scores import ExitScores
from ranet.errors import UserError

Floats = npt.NDArray[np.float64]
MOST_BINS = 6


@dataclass(frozen=True, eq=False)
class DifficultyTable:
    """Results of a policy on images of each size; S bins, with equal numbers of images if the sizes allow it.

    Attributes:
        low: (S,) smallest size in the bin.
        high: (S,) largest size in the bin.
        images: (S,) number of images in the bin.
        exit_shares: (S, K) fraction of the bin's images that left at each exit.
        mean_cost: (S,) mean cost, in the unit of the costs.
        accuracy: (S,) top-1 fraction.
    """

    low: Floats
    high: Floats
    images: npt.NDArray[np.int64]
    exit_shares: Floats
    mean_cost: Floats
    accuracy: Floats


def difficulty_table(
    policy: ExitPolicy, scores: ExitScores, cost_per_exit: Costs, sizes: npt.ArrayLike, bins: int = MOST_BINS
) -> DifficultyTable:
    """Group the images by size, and return exit shares, mean cost and accuracy of each group under a policy.

    The (N,) sizes are any number that may make an image easy or hard, such as the height of the object in pixels. There
    are at most as many groups as bins; with no more sizes than this, each size is a group.

    Raises:
        UserError: if there is not one finite size for each image.
    """
    size = np.asarray(sizes, dtype=np.float64)
    if size.shape != (scores.num_images,) or not np.isfinite(size).all():
        raise UserError(f"There must be one size for each of the {scores.num_images} images, given: {size.shape}.")
    costs, exits = costs_of_images(cost_per_exit, scores), policy.exits(scores)
    correct = scores.correct[exits, np.arange(scores.num_images)]
    distinct = np.unique(size)
    # Edges are sizes of images, so that no bin is empty.
    quantiles = np.quantile(size, np.arange(bins) / bins, method="inverted_cdf")
    edges = distinct if len(distinct) <= bins else np.unique(quantiles)
    group = np.searchsorted(edges, size, side="right") - 1
    members = [group == g for g in range(len(edges))]
    shares = np.array([np.bincount(exits[m], minlength=scores.num_exits) / m.sum() for m in members])
    return DifficultyTable(
        low=np.array([size[m].min() for m in members]),
        high=np.array([size[m].max() for m in members]),
        images=np.array([m.sum() for m in members]),
        exit_shares=shares,
        mean_cost=np.array([costs.part(m).mean(exits[m]) for m in members]),
        accuracy=np.array([correct[m].mean() for m in members]),
    )
