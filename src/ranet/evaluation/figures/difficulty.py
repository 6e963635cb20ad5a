"""The figure of easy and hard images: exit shares, mean cost and accuracy by image size."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from ranet.cost.units import CostScale
from ranet.evaluation.curves.difficulty import DifficultyTable
from ranet.evaluation.figures.style import OURS, PAGE, exit_colors, legend_below, new_figure, set_title, styled

Floats = npt.NDArray[np.float64]


@styled
def difficulty_figure(
    table: DifficultyTable, costs: Floats, unit: str, size_name: str = "size", title: str = "Small and large"
) -> Figure:
    """Draw exit shares, mean cost and accuracy of the images of each size, in three panels."""
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
    legend_below(figure, columns=min(exits, 10))
    return figure


def _interval(low: float, high: float) -> str:
    return f"{low:.3g}" if low == high else f"{low:.3g}\N{EN DASH}{high:.3g}"
