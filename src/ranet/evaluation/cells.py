"""Cells of tables: accuracies, intervals and p-values, for readers and for CSV files."""

from __future__ import annotations

from collections.abc import Iterable
from math import isnan, nan

from ranet.calibration.policies.intervals import Interval, accuracy_interval
from ranet.support.sheet import Column, Row


def percent(fraction: float) -> str:
    """Return the fraction in percent with two decimals; a dash for NaN.

    Example:
        >>> percent(0.98765), percent(float("nan"))
        ('98.77', '-')
    """
    return "-" if isnan(fraction) else f"{100 * fraction:.2f}"


def interval_of(accuracy: float, images: int) -> Interval | None:
    """Return the interval (95 %) of an accuracy on this number of images; None for NaN.

    Example:
        >>> [round(end, 3) for end in interval_of(1.0, 4)], interval_of(float("nan"), 0)
        ([0.398, 1.0], None)
    """
    return None if isnan(accuracy) else accuracy_interval(round(accuracy * images), images)


def accuracy_text(accuracy: float, images: int) -> str:
    """Return the accuracy in percent, with its interval on this number of images in brackets; a dash for NaN.

    Example:
        >>> accuracy_text(0.5, 8), accuracy_text(float("nan"), 0)
        ('50.00 (15.7-84.3)', '-')
    """
    interval = interval_of(accuracy, images)
    return "-" if interval is None else _with_interval(100 * accuracy, 100 * interval[0], 100 * interval[1])


def interval_text(interval: Interval | None, factor: float, form: str) -> str:
    """Return both ends times the factor, as a str; a dash if there is no interval.

    Example:
        >>> interval_text((0.5, 0.625), 100, ".1f"), interval_text(None, 100, ".1f")
        ('50.0 to 62.5', '-')
    """
    if interval is None or isnan(interval[0] + interval[1]):
        return "-"
    return " to ".join(format(factor * end, form) for end in interval)


def p_text(p: float) -> str:
    """Return a p-value as a short str.

    Example:
        >>> p_text(0.0432), p_text(1e-9)
        ('0.043', '< 0.001')
    """
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def interval_values(name: str, interval: Interval | None, factor: float = 1.0) -> Row:
    """Return both ends times the factor, as values of a row; NaN if there is no interval.

    Example:
        >>> interval_values("top1_percent", (0.25, 0.5), 100)
        {'top1_percent_low': 25.0, 'top1_percent_high': 50.0}
    """
    low, high = (nan, nan) if interval is None else interval
    return {f"{name}_low": factor * low, f"{name}_high": factor * high}


def accuracy_column(heading: str, key: str) -> Column:
    """Return a column of percentages, with the intervals of `interval_values` in brackets."""
    return Column(heading, (key, f"{key}_low", f"{key}_high"), _with_interval)


def share_values(name: str, fractions: Iterable[float]) -> Row:
    """Return a fraction for each exit in percent, as values of a row.

    Example:
        >>> share_values("share", [0.25, 0.75])
        {'share_1_percent': 25.0, 'share_2_percent': 75.0}
    """
    return {f"{name}_{k}_percent": 100 * float(fraction) for k, fraction in enumerate(fractions, start=1)}


def share_column(name: str, num_exits: int) -> Column:
    """Return a column of the shares of `share_values`, side by side."""
    keys = [f"{name}_{k}_percent" for k in range(1, num_exits + 1)]
    heading = f"leave at exits 1 to {num_exits} %"
    return Column(heading, keys, lambda *shares: " ".join(f"{share:2.0f}" for share in shares))


def with_unit(name: str, unit: str) -> str:
    """Return the name of a value with its unit, if that is known, as in cost_macs."""
    return f"{name}_{unit}" if unit else name


def _with_interval(value: float, low: float, high: float) -> str:
    return f"{value:.2f}" if isnan(low) else f"{value:.2f} ({low:.1f}-{high:.1f})"
