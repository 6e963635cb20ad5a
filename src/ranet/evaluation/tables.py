"""Tables of numbers: CSV files and console tables."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from ranet.calibration.policies.intervals import Interval, accuracy_interval
from ranet.calibration.policies.outcome import PolicyOutcome
from ranet.cost.units import CostScale
from ranet.evaluation.curves.anytime import AnytimeCurve
from ranet.evaluation.curves.budgeted import BudgetedCurve
from ranet.support.files import written_whole

Row = dict[str, float | int | str]


def write_csv(path: str | Path, rows: Sequence[Mapping[str, float | int | str]]) -> None:
    """Write rows to a CSV file, whole or not at all; floats have ten significant digits.

    The first row gives the names of the columns. Bytes of file names that are not UTF-8 are written unchanged.
    """
    how: Any = {"newline": "", "encoding": "utf-8", "errors": "surrogateescape"}
    with written_whole(path) as partial, partial.open("w", **how) as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)


def anytime_rows(curve: AnytimeCurve, unit: str) -> list[Row]:
    """Return one row for each exit: cost and accuracy."""
    return [
        {
            "exit": k + 1,
            _with_unit("cost", unit): float(curve.cost[k]),
            "top1_percent": 100 * float(curve.top1[k]),
            "top5_percent": 100 * float(curve.top5[k]),
            **interval_columns("top1_percent", interval_of(curve.top1[k], curve.images), 100),
            **interval_columns("top5_percent", interval_of(curve.top5[k], curve.images), 100),
        }
        for k in range(len(curve.cost))
    ]


def exit_rows(curve: AnytimeCurve, unit: str, outcome: PolicyOutcome | None = None) -> list[Row]:
    """Return one row for each exit: the anytime row, its calibration, and its share under a policy."""
    rows = anytime_rows(curve, unit)
    for k, row in enumerate(rows):
        row["calibration_error"] = float(curve.calibration_error[k])
        row["mean_confidence"] = float(curve.confidence[k])
        if outcome is not None:
            row["share_percent"] = 100 * float(outcome.exit_shares[k])
            row["accuracy_of_those_that_left_percent"] = 100 * float(outcome.accuracy_per_exit[k])
    return rows


def budgeted_rows(curve: BudgetedCurve, unit: str) -> list[Row]:
    """Return one row for each ratio of the sweep, with the column names of the reference where it has them."""
    rows = []
    for i, ratio in enumerate(curve.ratios):
        row: Row = {
            "ratio": float(ratio),
            "val_accuracy_percent": 100 * float(curve.validation_accuracy[i]),
            "test_accuracy_percent": 100 * float(curve.accuracy[i]),
            _with_unit("test_mean", unit or "cost"): float(curve.mean_cost[i]),
            **interval_columns("test_accuracy_percent", interval_of(curve.accuracy[i], curve.images), 100),
        }
        row |= {f"threshold_{k}": float(value) for k, value in enumerate(curve.thresholds[i], start=1)}
        row |= {f"share_{k}_percent": 100 * float(value) for k, value in enumerate(curve.exit_shares[i], start=1)}
        row |= {f"accuracy_{k}_percent": 100 * float(value) for k, value in enumerate(curve.accuracy_per_exit[i], 1)}
        rows.append(row)
    return rows


def exits_table(
    curve: AnytimeCurve, unit: str, outcome: PolicyOutcome | None = None, policy_name: str = "the policy given"
) -> Table:
    """Return the exits for the console."""
    scale = CostScale.of(curve.cost, unit)
    table = Table(title="Exits", caption=f"cost in {scale.label}; in brackets 95 % intervals")
    names = ["exit", "cost", "top-1 %", "top-5 %", "ECE"]
    if outcome is not None:
        names += ["leave %", "right of them %"]
        table.caption = f"{table.caption}\nexits under: {policy_name}"
    for name in names:
        # On a narrow terminal only the longest heading wraps, so that numbers keep their digits.
        table.add_column(name, justify="right", no_wrap=name != "right of them %")
    for k, row in enumerate(exit_rows(curve, unit, outcome)):
        top1 = with_interval(curve.top1[k], interval_of(curve.top1[k], curve.images))
        cells = [str(k + 1), scale.text(curve.cost[k]), top1, percent(curve.top5[k])]
        cells.append(f"{row['calibration_error']:.4f}")
        if outcome is not None:
            cells += [percent(outcome.exit_shares[k]), percent(outcome.accuracy_per_exit[k])]
        table.add_row(*cells)
    return table


def budgeted_table(curve: BudgetedCurve, costs: np.ndarray, unit: str, points: int = 8) -> Table:
    """Return some points of the sweep for the console, evenly spread over the mean cost."""
    scale = CostScale.of(costs, unit)
    caption = f"cost in {scale.label}; in brackets 95 % intervals"
    table = Table(title="Budgeted batch classification", caption=caption)
    for name in ("ratio", "mean cost", "top-1 %", f"leave at exits 1 to {len(costs)} %"):
        table.add_column(name, justify="right")
    wanted = np.linspace(curve.mean_cost.min(), curve.mean_cost.max(), points)
    nearest = {int(np.abs(curve.mean_cost - cost).argmin()) for cost in wanted}
    for i in sorted(nearest, key=lambda i: curve.mean_cost[i]):
        shares = " ".join(f"{100 * share:3.0f}" for share in curve.exit_shares[i])
        top1 = with_interval(curve.accuracy[i], interval_of(curve.accuracy[i], curve.images))
        table.add_row(f"{curve.ratios[i]:.3g}", scale.text(curve.mean_cost[i]), top1, shares)
    return table


def percent(fraction: float) -> str:
    """Return the fraction in percent with two decimals; a dash for NaN.

    Example:
        >>> percent(0.98765), percent(float("nan"))
        ('98.77', '-')
    """
    return "-" if np.isnan(fraction) else f"{100 * fraction:.2f}"


def with_interval(accuracy: float, interval: Interval | None) -> str:
    """Return the accuracy in percent, with its interval in brackets if known.

    Example:
        >>> with_interval(0.7645, (0.7452, 0.7829)), with_interval(0.5, None)
        ('76.45 (74.5-78.3)', '50.00')
    """
    if interval is None or np.isnan(accuracy):
        return percent(accuracy)
    return f"{percent(accuracy)} ({100 * interval[0]:.1f}-{100 * interval[1]:.1f})"


def interval_of(accuracy: float, images: int) -> Interval | None:
    """Return the interval (95 %) of an accuracy on this number of images; None for NaN.

    Example:
        >>> [round(end, 3) for end in interval_of(1.0, 4)], interval_of(float("nan"), 0)
        ([0.398, 1.0], None)
    """
    return None if np.isnan(accuracy) else accuracy_interval(round(accuracy * images), images)


def interval_columns(name: str, interval: Interval | None, factor: float = 1.0) -> Row:
    """Return both ends times the factor, as CSV columns; NaN if there is no interval.

    Example:
        >>> interval_columns("top1_percent", (0.25, 0.5), 100)
        {'top1_percent_low': 25.0, 'top1_percent_high': 50.0}
    """
    low, high = (nan, nan) if interval is None else interval
    return {f"{name}_low": factor * low, f"{name}_high": factor * high}


def _with_unit(name: str, unit: str) -> str:
    return f"{name}_{unit}" if unit else name


def _cell(value: float | int | str) -> str:
    return format(value, ".10g") if isinstance(value, float) else str(value)
