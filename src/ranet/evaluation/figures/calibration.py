"""The figure of solved policies: predictions along the budget, and results on test."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from ranet.cost.units import CostScale
from ranet.evaluation.figures.curves import draw_exits_alone, label_axes
from ranet.evaluation.figures.style import OURS, RANET, legend_below, new_figure, styled

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Promised:
    """The promises of R policies: (R,) mean cost, (R,) top-1 fraction and (R, 2) its interval, cheapest first."""

    cost: Floats
    accuracy: Floats
    interval: Floats


@dataclass(frozen=True, eq=False)
class Seen:
    """The results of R policies on test: (R,) mean cost and (R,) top-1 fraction."""

    cost: Floats
    accuracy: Floats


@dataclass(frozen=True, eq=False)
class Exits:
    """Each exit alone: (K,) cost and (K,) top-1 fraction on the images of a split."""

    cost: Floats
    accuracy: Floats
    split: str


@styled
def calibration_figure(
    promised: Promised, seen: Seen | None, exits: Exits, unit: str, title: str = "Exit policies"
) -> Figure:
    """Draw top-1 accuracy against mean cost: the promise with its interval, the test images, and each exit alone."""
    scale = CostScale.of(exits.cost, unit)
    figure = new_figure(height=2.9)
    axes = figure.subplots()
    cost, accuracy, interval = promised.cost / scale.divisor, 100 * promised.accuracy, 100 * promised.interval
    if len(cost) > 1:
        axes.fill_between(cost, interval[:, 0], interval[:, 1], color=OURS, alpha=0.18, linewidth=0)
        axes.plot(cost, accuracy, color=OURS, label="promised (validation, 95 % interval)")
    else:
        errors = np.abs(interval.T - accuracy)
        axes.errorbar(cost, accuracy, yerr=errors, color=OURS, marker="o", capsize=2, label="promised (95 % interval)")
    if seen is not None:
        axes.plot(
            seen.cost / scale.divisor,
            100 * seen.accuracy,
            color=RANET,
            marker="o",
            markersize=3,
            linestyle="none",
            zorder=3,
            label="seen on test",
        )
    draw_exits_alone(axes, exits.cost, exits.accuracy, scale, f"each exit alone ({exits.split})")
    label_axes(axes, "mean cost per image", scale, title)
    legend_below(figure, axes)
    return figure
