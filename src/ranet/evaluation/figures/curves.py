"""Figures of accuracy against cost, and of exit shares along the budget."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from ranet.cost.units import CostScale
from ranet.evaluation.curves.anytime import AnytimeCurve
from ranet.evaluation.curves.budgeted import BudgetedCurve
from ranet.evaluation.curves.published import PublishedPoint
from ranet.evaluation.figures.style import (
    FAINT,
    MSDNET,
    OURS,
    RANET,
    exit_colors,
    legend_below,
    minor_grid,
    new_figure,
    set_title,
    styled,
)

LOOKS = {"RANet": (RANET, "o"), "MSDNet": (MSDNET, "s")}


@styled
def anytime_figure(
    curve: AnytimeCurve,
    unit: str,
    published: Sequence[PublishedPoint] = (),
    title: str = "Anytime prediction",
    name: str = "ours",
) -> Figure:
    """Draw top-1 accuracy of each exit against the cost of reaching it, with published anytime points."""
    scale = CostScale.of(curve.cost, unit)
    figure = new_figure(height=2.9)
    axes = figure.subplots()
    axes.plot(curve.cost / scale.divisor, 100 * curve.top1, color=OURS, marker="o", zorder=3, label=name)
    _draw_published(axes, [point for point in published if point.setting == "anytime"], scale)
    return finished(figure, "cost per image", scale, title)


@styled
def budgeted_figure(
    curve: BudgetedCurve,
    anytime: AnytimeCurve,
    unit: str,
    published: Sequence[PublishedPoint] = (),
    title: str = "Budgeted batch classification",
    name: str = "ours",
) -> Figure:
    """Draw top-1 accuracy against mean cost along the sweep, each exit alone, and published budgeted points."""
    scale = CostScale.of(anytime.cost, unit)
    figure = new_figure(height=2.9)
    axes = figure.subplots()
    order = np.argsort(curve.mean_cost)
    axes.plot(
        curve.mean_cost[order] / scale.divisor,
        100 * curve.accuracy[order],
        color=OURS,
        marker=".",
        markersize=4,
        zorder=3,
        label=f"{name}, geometric policy",
    )
    draw_exits_alone(axes, anytime.cost, anytime.top1, scale, f"{name}, each exit alone")
    _draw_published(axes, [point for point in published if point.setting == "budgeted"], scale)
    return finished(figure, "mean cost per image", scale, title)


@styled
def shares_figure(
    curve: BudgetedCurve, costs: np.ndarray, unit: str, title: str = "Where images leave along the budget"
) -> Figure:
    """Draw the share of the images that left at each exit, stacked, against the mean cost of the sweep."""
    scale = CostScale.of(costs, unit)
    exits = curve.exit_shares.shape[1]
    figure = new_figure(height=2.9)
    axes = figure.subplots()
    order = np.argsort(curve.mean_cost)
    x = curve.mean_cost[order] / scale.divisor
    axes.stackplot(
        x,
        curve.exit_shares[order].T,
        colors=exit_colors(exits),
        labels=[f"exit {k}" for k in range(1, exits + 1)],
        edgecolor="white",
        linewidth=0.4,
    )
    axes.margins(0)
    set_title(axes, title)
    axes.set(ylim=(0, 1), xlabel=f"mean cost per image [{scale.label}]", ylabel="share of test images")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.grid(False)
    legend_below(figure, columns=min(exits, 5))
    return figure


def _draw_published(axes: Axes, points: Sequence[PublishedPoint], scale: CostScale) -> None:
    """Draw published points as hollow markers on thin lines, because they were read off a figure."""
    for network, (color, marker) in LOOKS.items():
        own = [point for point in points if point.network == network]
        if own:
            axes.plot(
                [point.cost / scale.divisor for point in own],
                [point.top1 for point in own],
                color=color,
                marker=marker,
                markerfacecolor="white",
                markeredgewidth=0.9,
                linewidth=0.7,
                linestyle="--",
                label=f"published {network} (figure reading)",
            )


def draw_exits_alone(axes: Axes, cost: np.ndarray, top1: np.ndarray, scale: CostScale, label: str) -> None:
    """Draw each exit alone, (K,) cost and top-1 fraction, as a faint line behind the policies."""
    axes.plot(
        cost / scale.divisor,
        100 * top1,
        color=FAINT,
        marker="D",
        markersize=3,
        linewidth=0.8,
        linestyle=":",
        label=label,
    )


def finished(figure: Figure, cost: str, scale: CostScale, title: str) -> Figure:
    """Return the figure with title, labels of its axes (a cost, and top-1 accuracy in percent) and legend."""
    (axes,) = figure.axes
    set_title(axes, title)
    axes.set(xlabel=f"{cost} [{scale.label}]", ylabel="top-1 accuracy [%]")
    axes.set_xlim(left=0)
    minor_grid(axes)
    legend_below(figure)
    return figure
