"""The style of all figures: sizes for one column of a paper, colours that colour-blind readers can distinguish."""

from __future__ import annotations

from pathlib import Path
from textwrap import wrap
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import AutoMinorLocator

from ranet.evaluation.figures.fonts import FIRST, make_drawable
from ranet.support.files import written_whole

COLUMN, PAGE = 3.5, 7.0  # inches: one column and the whole width of a two-column paper

# Okabe and Ito, "Color Universal Design" (2008).
OURS, RANET, MSDNET, RIGHT, WRONG = "#0072B2", "#D55E00", "#009E73", "#009E73", "#D55E00"
INK, FAINT = "#222222", "#8A8A8A"

STYLE: Any = {
    "font.family": FIRST,
    "text.parse_math": False,  # names may hold dollars
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.titleweight": "bold",
    "figure.titlesize": 8.5,
    "figure.titleweight": "bold",
    "axes.labelsize": 8,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.5,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "legend.handlelength": 1.8,
    "lines.linewidth": 1.3,
    "lines.markersize": 4,
    "figure.dpi": 300,
    "savefig.dpi": 300,
    "figure.constrained_layout.use": True,
}

styled = mpl.rc_context(STYLE)
"""Decorator of functions that draw a figure: the style applies only while they run."""


def new_figure(width: float = COLUMN, height: float = 2.6) -> Figure:
    """Return an empty figure of this size in inches, outside pyplot: no window, no global state, nothing to close."""
    return Figure(figsize=(width, height))


def exit_colors(num_exits: int) -> list[tuple[float, float, float, float]]:
    """Return one colour for each exit, dark to light in the order of the exits, so that grey prints show the order."""
    return [tuple(color) for color in mpl.colormaps["cividis"](np.linspace(0.0, 0.95, num_exits))]


def set_title(of: Axes | Figure, title: str) -> None:
    """Set the title of the axes (one column wide) or the figure (a page wide), in lines that fit."""
    width, draw = (44, of.set_title) if isinstance(of, Axes) else (95, of.suptitle)
    draw("\n".join(line for part in title.splitlines() for line in wrap(part, width)))


def legend_below(figure: Figure, columns: int = 2) -> None:
    """Put one legend of all axes below them, where it hides no point, in as many columns, up to ``columns``, as fit."""
    entries: dict[Any, Any] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    for ncols in range(columns, 0, -1):
        legend = figure.legend(
            list(entries.values()), list(entries), loc="outside lower center", ncols=ncols, columnspacing=1.2
        )
        make_drawable(figure)  # the width depends on the fonts
        if ncols == 1 or legend.get_window_extent().width <= figure.bbox.width:
            break
        legend.remove()


def minor_grid(axes: Axes) -> None:
    """Add ticks between the labelled ones, so that readers can read numbers off the figure."""
    axes.xaxis.set_minor_locator(AutoMinorLocator())
    axes.yaxis.set_minor_locator(AutoMinorLocator())
    axes.tick_params(which="minor", length=1.5, width=0.4)


@styled
def save_figure(figure: Figure, path: str | Path) -> None:
    """Write the figure, whole or not at all, in the format of the suffix (.png at 300 dpi, .pdf, .svg)."""
    make_drawable(figure)
    with written_whole(path) as partial:
        figure.savefig(partial)
