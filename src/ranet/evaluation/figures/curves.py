"""Figures of accuracy against cost, and of exit shares along the budget and by image size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from ranet.cost.units import CostScale
from ranet.evaluation.curves.anytime import AnytimeCurve
from ranet.evaluation.curves.budgeted import BudgetedCurve
from ranet.evaluation.curves.difficulty import DifficultyTable
from ranet.evaluation.curves.published import PublishedPoint
from ranet.evaluation.figures.style import (
    FAINT,
    MSDNET,
    OURS,
    PAGE,
    RANET,
    exit_colors,
    legend_below,
    minor_grid,
    new_figure,
    set_title,
    styled,
)
from ranet.evaluation.policies.solved import CalibrationReport

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
    _draw_published(axes, published, "anytime", scale)
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
    _draw_published(axes, published, "budgeted", scale)
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
    axes.stackplot(
        curve.mean_cost[order] / scale.divisor,
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


@styled
def calibration_figure(report: CalibrationReport, title: str = "Exit policies") -> Figure:
    """Draw top-1 accuracy against mean cost: the promise with its interval, the test images, and each exit alone.

    Each exit is drawn on the test images, or on the validation images if the test images have no labels.
    """
    exits, promised = report.exits, [solved.calibration for solved in report.policies]
    seen = [one.seen for one in report.policies if one.seen is not None and not np.isnan(one.seen.accuracy)]
    scale = CostScale.of(exits.costs, exits.unit)
    figure = new_figure(height=2.9)
    axes = figure.subplots()
    cost = np.array([of.predicted_cost for of in promised]) / scale.divisor
    accuracy = 100 * np.array([of.predicted_accuracy for of in promised])
    interval = 100 * np.array([of.interval for of in promised])
    if len(cost) > 1:
        axes.fill_between(cost, interval[:, 0], interval[:, 1], color=OURS, alpha=0.18, linewidth=0)
        axes.plot(cost, accuracy, color=OURS, label="promised (validation, 95 % interval)")
    else:
        errors = np.abs(interval.T - accuracy)
        axes.errorbar(cost, accuracy, yerr=errors, color=OURS, marker="o", capsize=2, label="promised (95 % interval)")
    if seen:
        cost, right = np.array([(one.mean_cost / scale.divisor, 100 * one.accuracy) for one in seen]).T
        axes.plot(cost, right, "o", color=RANET, markersize=3, zorder=3, label="seen on test")
    split = "test" if seen else "validation"
    draw_exits_alone(axes, exits.costs, exits.accuracy(split), scale, f"each exit alone ({split})")
    return finished(figure, "mean cost per image", scale, title)


@styled
def difficulty_figure(
    table: DifficultyTable, costs: np.ndarray, unit: str, size_name: str = "size", title: str = "Small and large"
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
    ends = zip(table.low, table.high, strict=True)
    names = [f"{low:.3g}" if low == high else f"{low:.3g}\N{EN DASH}{high:.3g}" for low, high in ends]
    for axes in (left, middle, right):
        axes.set_xticks(x, names, rotation=40, ha="right", rotation_mode="anchor", fontsize=6.5)
        axes.set(xlabel=size_name, xlim=(-0.6, len(x) - 0.4))
    legend_below(figure, columns=min(exits, 10))
    return figure


def _draw_published(axes: Axes, points: Sequence[PublishedPoint], setting: str, scale: CostScale) -> None:
    """Draw published points as hollow markers on thin lines, because they were read off a figure."""
    for network, (color, marker) in LOOKS.items():
        if own := [point for point in points if (point.network, point.setting) == (network, setting)]:
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
