"""The tables of `ranet compare`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isnan

import numpy as np

from ranet.cost.units import CostScale
from ranet.evaluation.cells import accuracy_text
from ranet.evaluation.comparison.comparison import Comparison, Difference, Place, Point, Statistic
from ranet.support.sheet import Column, Row, Sheet


def exit_rows(comparison: Comparison) -> list[Row]:
    """Return one row for each group and exit."""
    rows = []
    for point in comparison.exits:
        assert point.top5 is not None
        assert point.calibration_error is not None
        row: Row = {"group": point.group, "exit": point.place, "n": point.top1.n}
        row |= {f"cost_{comparison.unit}": point.cost.mean}
        row |= _spread("top1_percent", point.top1, 100)
        row |= _spread("top5_percent", point.top5, 100)
        row |= _spread("calibration_error", point.calibration_error)
        rows.append(row | _difference(comparison, point))
    return rows


def budget_rows(comparison: Comparison) -> list[Row]:
    """Return one row for each group and budget."""
    rows = []
    for point in comparison.budgets:
        row: Row = {"group": point.group, f"budget_{comparison.unit}": point.place, "n": point.top1.n}
        row |= _spread(f"test_cost_{comparison.unit}", point.cost)
        row |= _spread("top1_percent", point.top1, 100)
        rows.append(row | _difference(comparison, point))
    return rows


def run_sheet(comparison: Comparison, caption: str) -> Sheet:
    """Return the table of the runs: group, folder, revision and, for programs, numbers of exits and images."""
    rows: list[Row] = [
        {
            "group": group.label,
            "seed": run.seed,
            "run": str(run.folder),
            "git_revision": run.git_revision,
            "exits": run.test.num_exits,
            "test_images": run.test.num_images,
            "validation_images": 0 if run.validation is None else run.validation.num_images,
        }
        for group in comparison.groups
        for run in group.runs.values()
    ]
    columns = [
        Column("group", left=True),
        Column("seed", left=True),
        Column("run", form=lambda folder: f"`{folder}`", left=True),
        Column("git revision", "git_revision", lambda revision: revision or "-", left=True),
    ]
    return Sheet("Runs", rows, columns, caption)


def group_sheet(comparison: Comparison) -> Sheet:
    """Return the table of groups, and of the options in which they differ."""
    rows: list[Row] = [
        {
            "group": group.label,
            "n": len(group.runs),
            "seeds": " ".join(dict.fromkeys(run.seed for run in group.runs.values())),
            "options that differ between groups": ", ".join(f"{name}={value}" for name, value in group.details.items())
            or "-",
        }
        for group in comparison.groups
    ]
    return Sheet("Groups", rows, caption=f"The baseline is {comparison.baseline}.")


def exit_sheets(comparison: Comparison) -> list[Sheet]:
    """Return the tables of the accuracy of each exit, and of its difference to the baseline."""
    scale = _scale(comparison)
    places = _places(comparison.exits)
    costs = {place: {p.cost.mean for p in comparison.exits if p.place == place} for place in places}
    shared = all(len(of_place) == 1 for of_place in costs.values())

    def accuracy(point: Point, n: int) -> str:
        cost = "" if shared else f"\nat {scale.text(point.cost.mean)}"
        return _mean_and_std(point.top1, n, comparison.images) + cost

    def first(place: Place) -> tuple[str, ...]:
        return (str(place), scale.text(next(iter(costs[place])))) if shared else (str(place),)

    names = ("exit", "cost") if shared else ("exit",)
    caption = f"{_spread_of(comparison.exits)}; {'' if shared else 'at '}cost in {scale.label}."
    sheets = [_sheet("Each exit", caption, names, comparison, comparison.exits, places, first, accuracy, _runs)]
    return sheets + _difference_sheets("Each exit", names, comparison, comparison.exits, places, first)


def budget_sheets(comparison: Comparison, most: int | None = None) -> list[Sheet]:
    """Return the tables of the accuracy under each budget, and of its difference to the baseline.

    Args:
        comparison: the comparison; without budgets there are no tables.
        most: largest number of budgets to show, evenly chosen; by default all.
    """
    if not comparison.budgets:
        return []
    scale = _scale(comparison)
    places = _places(comparison.budgets)
    if most is not None and len(places) > most:
        places = [places[i] for i in np.linspace(0, len(places) - 1, most).round().astype(int)]

    def accuracy(point: Point, n: int) -> str:
        return f"{_mean_and_std(point.top1, n, comparison.images)}\nat {scale.text(point.cost.mean)}"

    def first(place: Place) -> tuple[str, ...]:
        return (scale.text(place),)

    caption = (
        f"{_spread_of(comparison.budgets)}, at the mean cost on the test images; budget and cost in "
        f"{scale.label}. Geometric policies, solved for the budget on validation images."
    )
    points, names = comparison.budgets, ("budget",)
    sheets = [_sheet("Along the budget", caption, names, comparison, points, places, first, accuracy, _runs)]
    return sheets + _difference_sheets("Along the budget", names, comparison, points, places, first)


def _difference_sheets(
    title: str,
    names: tuple[str, ...],
    comparison: Comparison,
    points: Sequence[Point],
    places: Sequence[Place],
    first: Callable[[Place], tuple[str, ...]],
) -> list[Sheet]:
    if not any(point.difference for point in points):
        return []
    title = f"{title}: difference to {comparison.baseline}"
    caption = (
        "Top-1 in percentage points, mean ± standard deviation over n pairs of runs of the same seed (and pooled "
        "options) [95 % t-interval of the mean, each for itself]."
    )
    compared = [point for point in points if point.group != comparison.baseline]
    return [_sheet(title, caption, names, comparison, compared, places, first, _difference_text, _pairs)]


def _sheet(
    title: str,
    caption: str,
    names: tuple[str, ...],
    comparison: Comparison,
    points: Sequence[Point],
    places: Sequence[Place],
    first: Callable[[Place], tuple[str, ...]],
    text: Callable[[Point, int], str],
    count: Callable[[Point], int],
) -> Sheet:
    """Return a row for each place and a column for each group; n is in the heading, and in cells if it differs."""
    at = {(point.group, point.place): point for point in points}
    labels = [group.label for group in comparison.groups if any(group.label == point.group for point in points)]
    usual = {label: max(count(point) for point in points if point.group == label) for label in labels}
    rows = [
        dict(zip(names, first(place), strict=True))
        | {
            f"{label} (n={usual[label]})": text(at[label, place], usual[label]) if (label, place) in at else "-"
            for label in labels
        }
        for place in places
    ]
    return Sheet(title, rows, [Column(heading) for heading in rows[0]], caption)


def _runs(point: Point) -> int:
    return point.top1.n


def _pairs(point: Point) -> int:
    return point.difference.n if point.difference else 0


def _spread_of(points: Sequence[Point]) -> str:
    one = " (of one run, its 95 % interval over the test images)" if any(point.top1.n == 1 for point in points) else ""
    return f"Top-1 %, mean ± standard deviation over n runs{one}"


def _mean_and_std(statistic: Statistic, usual: int, images: int) -> str:
    if statistic.n == 1:
        n = "" if usual == 1 else " (n=1)"
        return accuracy_text(statistic.mean, images) + n
    n = "" if statistic.n == usual else f" (n={statistic.n})"
    return f"{_number(100 * statistic.mean)} ± {_number(100 * statistic.std)}{n}"


def _difference_text(point: Point, usual: int) -> str:
    found = point.difference
    if found is None or not found.n:
        return "-"
    n = "" if found.n == usual else f" (n={found.n})"
    mean, low, high = (_number(100 * value, "+") for value in (found.mean, found.low, found.high))
    interval = "" if isnan(found.low) else f"\n[{low}, {high}]"
    return f"{mean} ± {_number(100 * found.std)}{n}{interval}"


def _number(value: float, sign: str = "") -> str:
    return "-" if isnan(value) else f"{value:{sign}.2f}"


def _places(points: Sequence[Point]) -> list[Place]:
    return sorted({point.place for point in points})


def _scale(comparison: Comparison) -> CostScale:
    return CostScale.of([point.cost.mean for point in comparison.exits], comparison.unit)


def _spread(name: str, statistic: Statistic, factor: float = 1.0) -> Row:
    return {f"{name}_mean": factor * statistic.mean, f"{name}_std": factor * statistic.std}


def _difference(comparison: Comparison, point: Point) -> Row:
    """Return the difference in percentage points; empty for the baseline."""
    found: Difference | None = point.difference
    values = [100 * value for value in (found.mean, found.std, found.low, found.high)] if found else [""] * 4
    names = [f"top1_difference_{name}" for name in ("mean", "std", "low95", "high95")]
    head: Row = {"difference_to": comparison.baseline if found else "", "pairs": found.n if found else ""}
    return head | dict(zip(names, values, strict=True))
