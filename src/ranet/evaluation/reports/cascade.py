"""The report of `ranet cascade`: the frontier, and each network alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ranet.cost.units import CostScale
from ranet.evaluation.cells import accuracy_column, interval_values, with_unit
from ranet.evaluation.figures.curves import draw_exits_alone, finished
from ranet.evaluation.figures.style import OURS, new_figure, styled
from ranet.evaluation.policies.cascades import CascadeReport
from ranet.evaluation.reports.document import Document
from ranet.support.sheet import Column, Row, Sheet

HELD_OUT = "of images that the choice was not made on; in brackets 95 % intervals"


def cascade_document(report: CascadeReport, title: str, sentences: Sequence[str] = ()) -> Document:
    """Return the tables, sentences and the figure of a search for cascades."""
    frontier, alone = frontier_sheet(report), alone_sheet(report)
    files: dict[str, Any] = {
        "frontier.csv": frontier,
        "candidates.csv": alone,
        "cascade.png": cascade_figure(report, title),
    }
    return Document(title, [alone, frontier], [*report.sentences, *sentences], files)


def frontier_sheet(report: CascadeReport) -> Sheet:
    """Return the frontier, a row for each point; neighbours that come to the same are one."""
    scale = CostScale.of([point.cost for point in report.frontier], report.unit)
    cost = with_unit("cost", report.unit)
    rows: list[Row] = []
    for point in report.frontier:
        row = {
            "members": report.named(point.choice.members),
            cost: point.cost,
            "accuracy_percent": 100 * point.accuracy,
            **interval_values("accuracy_percent", point.interval, 100),
            "thresholds": " ".join(map(str, point.choice.thresholds)),
        }
        if not rows or row != rows[-1]:
            rows.append(row)
    columns = [
        Column("members", left=True),
        Column("cost", cost, scale.text),
        accuracy_column("top-1 %", "accuracy_percent"),
    ]
    return Sheet("Cascades along the budget", rows, columns, f"cost in {scale.label}; {HELD_OUT}")


def alone_sheet(report: CascadeReport) -> Sheet:
    """Return each network alone."""
    scale = CostScale.of([one.cost for one in report.alone], report.unit)
    cost = with_unit("cost", report.unit)
    rows: list[Row] = [
        {
            "network": one.name,
            cost: one.cost,
            "accuracy_percent": 100 * one.accuracy,
            **interval_values("accuracy_percent", one.interval, 100),
        }
        for one in report.alone
    ]
    columns = [
        Column("network", left=True),
        Column("cost", cost, scale.text),
        accuracy_column("top-1 %", "accuracy_percent"),
    ]
    return Sheet("Each network alone", rows, columns, f"cost in {scale.label}")


@styled
def cascade_figure(report: CascadeReport, title: str) -> Figure:
    """Draw accuracy against cost: the cascades along the budget, and each network alone."""
    points = sorted(report.frontier, key=lambda point: point.cost)
    scale = CostScale.of([point.cost for point in points], report.unit)
    figure = new_figure(height=2.9)
    axes = figure.subplots()
    cost = [point.cost / scale.divisor for point in points]
    low, high = ([100 * point.interval[end] for point in points] for end in (0, 1))
    axes.fill_between(cost, low, high, color=OURS, alpha=0.18, linewidth=0)
    axes.plot(cost, [100 * point.accuracy for point in points], color=OURS, label="cascades (held-out, 95 % interval)")
    alone = np.array([(one.cost, one.accuracy) for one in report.alone]).T
    draw_exits_alone(axes, alone[0], alone[1], scale, "each network alone")
    for one in report.alone:
        at = (one.cost / scale.divisor, 100 * one.accuracy)
        axes.annotate(one.name, at, xytext=(3, -9), textcoords="offset points", fontsize=6)
    return finished(figure, "mean cost per image", scale, title)
