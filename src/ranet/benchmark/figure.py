"""The figure that decides: accuracy against measured milliseconds, early exit and its rivals together."""

from __future__ import annotations

from functools import partial
from math import isnan
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from ranet.benchmark.results import CALL, STREAM, Benchmark, SettingTimes
from ranet.benchmark.turns import Floats
from ranet.cost.units import CostScale
from ranet.evaluation.figures.curves import draw_exits_alone
from ranet.evaluation.figures.style import (
    COLUMN,
    INK,
    MSDNET,
    OURS,
    PAGE,
    RANET,
    legend_below,
    new_figure,
    set_title,
    styled,
)

_LOOKS: dict[str, dict[str, Any]] = {
    CALL: {"markerfacecolor": OURS, "linestyle": "-"},
    STREAM: {"markerfacecolor": "white", "linestyle": "--"},
}


@styled
def benchmark_figure(benchmark: Benchmark, title: str = "Early exit, measured") -> Figure:
    """A panel for each setting: a row for each backend and precision, a column for each batch size.

    Early exit is a curve over its policies; the whole network, the network as trained and rivals are points; rivals of
    unknown accuracy are lines across. Times are on a logarithmic scale.
    """
    rows = list(dict.fromkeys(result.setting[:2] for result in benchmark.settings))
    columns = list(dict.fromkeys(result.setting.batch_size for result in benchmark.settings))
    figure = new_figure(COLUMN if len(columns) == 1 else PAGE, 0.9 + 2.2 * len(rows))
    panels = figure.subplots(len(rows), len(columns), squeeze=False, sharey=True)
    empty = set(panels.flat)
    for result in benchmark.settings:
        axes = panels[rows.index(result.setting[:2]), columns.index(result.setting.batch_size)]
        empty.discard(axes)
        _draw(axes, result, benchmark.exit_accuracies)
        set_title(axes, str(result.setting).capitalize())
    for axes in empty:
        axes.set_axis_off()
    for axes in panels[:, 0]:
        axes.set_ylabel("top-1 accuracy [%]")
    set_title(figure, title)
    legend_below(figure, 3 if len(columns) > 1 else 2)
    return figure


def _draw(axes: Axes, result: SettingTimes, exit_accuracies: Floats) -> None:
    label = "each exit alone (its stages)"
    draw_exits_alone(axes, np.cumsum(result.stages), exit_accuracies, CostScale.of([], "ms"), label)
    policies = sorted(result.policies, key=lambda each: each.macs)
    for way in (CALL, STREAM):
        shown = [policy for policy in policies if way in policy.measured]
        if not shown:
            continue
        times = [policy.measured[way].ms for policy in shown]
        top1 = [100 * policy.answered.accuracy for policy in shown]
        axes.plot(times, top1, color=OURS, marker="o", zorder=3, label=f"early exit, {way}", **_LOOKS[way])
    for name, timing, accuracy, color, marker in (
        ("whole network", result.whole, result.last_exit.accuracy, RANET, "s"),
        ("as trained (PyTorch float32)", result.trained, exit_accuracies[-1], INK, "X"),
    ):
        axes.plot([timing.ms], [100 * accuracy], color=color, marker=marker, linestyle="none", label=name)
    for rival in result.rivals:
        note = partial(axes.annotate, rival.name, textcoords="offset points", fontsize=6, color=MSDNET)
        ms, accuracy = rival.timing.ms, 100 * rival.accuracy
        if isnan(accuracy):
            axes.axvline(ms, color=MSDNET, linewidth=0.8, linestyle="-.", label="rivals")
            note((ms, 0.02), xycoords=axes.get_xaxis_transform(), xytext=(2, 0), rotation=90, va="bottom")
        else:
            axes.plot(ms, accuracy, color=MSDNET, marker="^", linestyle="none", label="rivals")
            note((ms, accuracy), xytext=(3, 3))
    axes.set_xscale("log")
    axes.margins(x=0.1)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("milliseconds per image")
