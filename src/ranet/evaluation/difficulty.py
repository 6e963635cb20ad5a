"""Whether the policy spends where it is hard: exits, cost and accuracy by a size that the samples carry."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from ranet.calibration import ExitPolicy, ExitScores
from ranet.calibration.outcome import checked_costs
from ranet.errors import UserError
from ranet.evaluation.style import OURS, PAGE, exit_colors, legend_below, new_figure, set_title, styled
from ranet.evaluation.units import CostScale

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


@styled
def difficulty_figure(
    table: DifficultyTable, costs: Floats, unit: str, size_name: str = "size", title: str = "Small and large"
) -> Figure:
    """Where the images of each size leave, what they cost, and how many are right, in three panels."""
    scale = CostScale.of(costs, unit)
    figure = new_figure(PAGE, 3.0)
    set_title(figure, title)
    left, middle, right = figure.subplots(1, 3, width_ratios=[1.2, 1, 1])
    x = np.arange(len(table.low))
    exits = table.exit_shares.shape[1]
    bottom = np.zeros(len(x))
    for k, color in enumerate(exit_colors(exits)):
        share = table.exit_shares[:, k]
        left.bar(x, share, 0.85, bottom, color=color, edgecolor="white", linewidth=0.4, label=f"exit {k + 1}")
        bottom += share
    left.set(ylabel="share that leaves at each exit", ylim=(0, 1))
    left.yaxis.set_major_formatter(PercentFormatter(1.0))
    left.grid(False)
    middle.plot(x, table.mean_cost / scale.divisor, color=OURS, marker="o")
    middle.set(ylabel=f"mean cost per image\n[{scale.label}]", ylim=(0, 1.08 * table.mean_cost.max() / scale.divisor))
    right.plot(x, 100 * table.accuracy, color=OURS, marker="o")
    right.set_ylabel("top-1 accuracy [%]")
    names = [_interval(low, high) for low, high in zip(table.low, table.high, strict=True)]
    for axes in (left, middle, right):
        axes.set_xticks(x, names, rotation=40, ha="right", rotation_mode="anchor", fontsize=6.5)
        axes.set(xlabel=size_name, xlim=(-0.6, len(x) - 0.4))
    legend_below(figure, left, columns=min(exits, 10))
    return figure


def _interval(low: float, high: float) -> str:
    return f"{low:.3g}" if low == high else f"{low:.3g}\N{EN DASH}{high:.3g}"
