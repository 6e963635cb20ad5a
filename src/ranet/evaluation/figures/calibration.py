"""The figure of solved policies: predictions along the budget, and results on test."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from ranet.cost.units import CostScale
from ranet.evaluation.figures.curves import draw_exits_alone, finished
from ranet.evaluation.figures.style import OURS, RANET, new_figure, styled
from ranet.evaluation.policies.solved import CalibrationReport


@styled
def calibration_figure(report: CalibrationReport, title: str = "Exit policies") -> Figure:
    """Draw top-1 accuracy against mean cost: the promise with its interval, the test images, and each exit alone.

    Each exit is drawn on the test images, or on the validation images if the test images have no labels.
    """
    exits, promised = report.exits, [solved.calibration for solved in report.policies]
    seen = [solved.seen for solved in report.policies if solved.seen is not None and not np.isnan(solved.seen.accuracy)]
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
        axes.plot(
            [one.mean_cost / scale.divisor for one in seen],
            [100 * one.accuracy for one in seen],
            color=RANET,
            marker="o",
            markersize=3,
            linestyle="none",
            zorder=3,
            label="seen on test",
        )
    split = "test" if seen else "validation"
    draw_exits_alone(axes, exits.costs, exits.accuracy(split), scale, f"each exit alone ({split})")
    return finished(figure, "mean cost per image", scale, title)
