"""The figure of a comparison: each exit and the budget, side by side, with a band for the spread over seeds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ranet.cost.units import CostScale
from ranet.evaluation.comparison.comparison import Comparison, Point
from ranet.evaluation.figures.style import FAINT, INK, PAGE, legend_below, minor_grid, new_figure, set_title, styled

# Okabe and Ito, "Color Universal Design" (2008), with grey in place of yellow, which is hard to see on white. The
# baseline comes first, in near-black.
COLORS = (INK, "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", FAINT)
LINES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


@styled
def comparison_figure(comparison: Comparison, title: str = "") -> Figure:
    """Draw top-1 accuracy against cost, of each exit (left) and along the budget (right): mean and standard deviation.

    A group of one run has a line but no band. Without budgets there is no right panel.
    """
    scale = CostScale.of([point.cost.mean for point in comparison.exits], comparison.unit)
    figure = new_figure(PAGE, 3.4)
    set_title(figure, f"{title}\nmean and one standard deviation over n runs".strip())
    panels = [("Anytime: each exit", "cost per image", comparison.exits)]
    if comparison.budgets:
        panels.append(("Budgeted batch classification", "mean cost per image", comparison.budgets))
    # One accuracy axis for both panels, so that they can be compared.
    row = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for axes, (heading, cost, points) in zip(row, panels, strict=True):
        for number, group in enumerate(comparison.groups):
            own = [point for point in points if point.group == group.label]
            if own:
                _draw(axes, own, scale, number, f"{group.label} (n={len(group.runs)})", few=points is comparison.exits)
        set_title(axes, heading)
        axes.set_xlabel(f"{cost} [{scale.label}]")
        axes.set_xlim(left=0)
        minor_grid(axes)
    row[0].set_ylabel("top-1 accuracy [%]")
    legend_below(figure, columns=4)
    return figure


def _draw(axes: Axes, points: Sequence[Point], scale: CostScale, number: int, label: str, few: bool) -> None:
    """Draw a group's line, a band if there is a standard deviation, and markers if there are few points."""
    color = COLORS[number % len(COLORS)]
    # With more groups than colours, a colour is used again with another line style.
    line = LINES[(number + number // len(COLORS)) % len(LINES)]
    cost = np.array([point.cost.mean for point in points]) / scale.divisor
    mean = 100 * np.array([point.top1.mean for point in points])
    std = 100 * np.array([point.top1.std for point in points])
    axes.plot(
        cost,
        mean,
        color=color,
        linestyle=line,
        marker=MARKERS[number % len(MARKERS)] if few else "",
        markersize=3.5,
        zorder=3,
        label=label,
    )
    if np.isfinite(std).any():
        axes.fill_between(cost, mean - std, mean + std, color=color, alpha=0.18, linewidth=0)
