"""The report of `ranet compare`: CSV tables, a Markdown page and a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isnan
from pathlib import Path

import numpy as np

from ranet.cost.units import CostScale
from ranet.evaluation.cells import accuracy_text
from ranet.evaluation.comparison.comparison import Comparison, Place, Point, Statistic
from ranet.evaluation.figures.comparison import comparison_figure
from ranet.evaluation.reports.document import Document
from ranet.support.sheet import Column, Row, Sheet

PAGE, BUDGETS = "comparison.md", "budgets.csv"
_Cell = tuple[int, str, str]  # n, which stands behind the first text where it is not that of the column


def write_comparison(folder: str | Path, comparison: Comparison, sources: Sequence[str] = ()) -> tuple[str, ...]:
    """Write exits.csv, runs.csv, comparison.md and comparison.png, and budgets.csv if there are budgets.

    The folder is made if it is missing, and earlier files of the same names are replaced. The page names the sources,
    which are the folders that were searched for runs.

    Returns:
        The names of the files.
    """
    written = comparison_document(comparison, sources).write(Path(folder), PAGE)
    if not comparison.budgets:  # a file of an earlier comparison would not match the other files
        (Path(folder) / BUDGETS).unlink(missing_ok=True)
    return tuple(path.name for path in written)


def comparison_document(comparison: Comparison, sources: Sequence[str] = ()) -> Document:
    """Return all tables, the notes, and the files: the CSV tables and the figure."""
    searched = f"Found in {', '.join(f'`{source}`' for source in sources)}." if sources else "As given."
    runs = run_sheet(comparison, searched)
    files = {"exits.csv": Sheet("Exits", exit_rows(comparison)), "runs.csv": runs}
    if comparison.budgets:
        files[BUDGETS] = Sheet("Budgets", budget_rows(comparison))
    groups, count = len(comparison.groups), len(comparison.runs)
    title = (
        f"{f'{groups} groups' if groups > 1 else comparison.baseline}, {f'{count} runs' if count > 1 else 'one run'} "
        f"on {comparison.runs[0].options['data.name']} ({comparison.images:,} test images)"
    )
    return Document(
        title,
        [group_sheet(comparison), *exit_sheets(comparison), *budget_sheets(comparison), runs],
        comparison.notes,
        {**files, "comparison.png": comparison_figure(comparison, title)},
    )


def exit_rows(comparison: Comparison) -> list[Row]:
    """Return one row for each group and exit."""
    rows: list[Row] = []
    for point in comparison.exits:
        assert point.top5 is not None
        assert point.calibration_error is not None
        rows.append(
            {"group": point.group, "exit": point.place, "n": point.top1.n, f"cost_{comparison.unit}": point.cost.mean}
            | _spread("top1_percent", point.top1, 100)
            | _spread("top5_percent", point.top5, 100)
            | _spread("calibration_error", point.calibration_error)
            | _difference(comparison, point)
        )
    return rows


def budget_rows(comparison: Comparison) -> list[Row]:
    """Return one row for each group and budget."""
    unit = comparison.unit
    return [
        {"group": point.group, f"budget_{unit}": point.place, "n": point.top1.n}
        | _spread(f"test_cost_{unit}", point.cost)
        | _spread("top1_percent", point.top1, 100)
        | _difference(comparison, point)
        for point in comparison.budgets
    ]


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
    costs: dict[Place, set[float]] = {}
    for point in comparison.exits:
        costs.setdefault(point.place, set()).add(point.cost.mean)
    shared = all(len(of_exit) == 1 for of_exit in costs.values())
    heads = {k: {"exit": str(k)} | ({"cost": scale.text(min(costs[k]))} if shared else {}) for k in sorted(costs)}
    caption = f"{_spread_of(comparison.exits)}; {'' if shared else 'at '}cost in {scale.label}."
    return _sheets("Each exit", caption, comparison, comparison.exits, heads, None if shared else scale)


def budget_sheets(comparison: Comparison, most: int | None = None) -> list[Sheet]:
    """Return the tables of the accuracy under each budget, or under some that are evenly chosen, and of its difference.

    Without budgets there are no tables.
    """
    if not comparison.budgets:
        return []
    scale = _scale(comparison)
    budgets = sorted({point.place for point in comparison.budgets})
    if most is not None and len(budgets) > most:
        budgets = [budgets[i] for i in np.linspace(0, len(budgets) - 1, most).round().astype(int)]
    caption = (
        f"{_spread_of(comparison.budgets)}, at the mean cost on the test images; budget and cost in "
        f"{scale.label}. Geometric policies, solved for the budget on validation images."
    )
    heads = {budget: {"budget": scale.text(budget)} for budget in budgets}
    return _sheets("Along the budget", caption, comparison, comparison.budgets, heads, scale)


def _sheets(
    title: str,
    caption: str,
    comparison: Comparison,
    points: Sequence[Point],
    heads: Mapping[Place, Row],
    scale: CostScale | None,
) -> list[Sheet]:
    """Return the table of accuracies, with their costs if a scale is given, and the table of differences, if any."""
    accuracies: dict[tuple[str, Place], _Cell] = {}
    differences: dict[tuple[str, Place], _Cell] = {}
    for point in points:
        cost = "" if scale is None else f"\nat {scale.text(point.cost.mean)}"
        accuracies[point.group, point.place] = point.top1.n, _mean_and_std(point.top1, comparison.images), cost
        if (found := point.difference) is not None:
            mean, low, high = (_number(100 * value, "+") for value in (found.mean, found.low, found.high))
            interval = "" if isnan(found.low) else f"\n[{low}, {high}]"
            differences[point.group, point.place] = found.n, f"{mean} ± {_number(100 * found.std)}", interval
    sheets = [_sheet(title, caption, heads, accuracies)]
    if differences:
        caption = (
            "Top-1 in percentage points, mean ± standard deviation over n pairs of runs of the same seed (and pooled "
            "options) [95 % t-interval of the mean, each for itself]."
        )
        sheets.append(_sheet(f"{title}: difference to {comparison.baseline}", caption, heads, differences))
    return sheets


def _sheet(title: str, caption: str, heads: Mapping[Place, Row], cells: Mapping[tuple[str, Place], _Cell]) -> Sheet:
    """Return a row for each place and a column for each group; n is in the heading, and in cells if it differs."""
    usual: dict[str, int] = {}
    for (group, _), (n, *_) in cells.items():
        usual[group] = max(n, usual.get(group, 0))

    def text(group: str, place: Place) -> str:
        n, first, second = cells.get((group, place), (0, "", ""))
        return f"{first}{'' if n == usual[group] else f' (n={n})'}{second}" if n else "-"

    rows = [
        head | {f"{group} (n={usual[group]})": text(group, place) for group in usual} for place, head in heads.items()
    ]
    return Sheet(title, rows, [Column(heading) for heading in rows[0]], caption)


def _spread_of(points: Sequence[Point]) -> str:
    one = " (of one run, its 95 % interval over the test images)" if any(point.top1.n == 1 for point in points) else ""
    return f"Top-1 %, mean ± standard deviation over n runs{one}"


def _mean_and_std(statistic: Statistic, images: int) -> str:
    if statistic.n == 1:
        return accuracy_text(statistic.mean, images)
    return f"{_number(100 * statistic.mean)} ± {_number(100 * statistic.std)}"


def _number(value: float, sign: str = "") -> str:
    return "-" if isnan(value) else f"{value:{sign}.2f}"


def _scale(comparison: Comparison) -> CostScale:
    return CostScale.of([point.cost.mean for point in comparison.exits], comparison.unit)


def _spread(name: str, statistic: Statistic, factor: float = 1.0) -> Row:
    return {f"{name}_mean": factor * statistic.mean, f"{name}_std": factor * statistic.std}


def _difference(comparison: Comparison, point: Point) -> Row:
    """Return the difference in percentage points; empty for the baseline."""
    found = point.difference
    values = [100 * value for value in (found.mean, found.std, found.low, found.high)] if found else [""] * 4
    names = [f"top1_difference_{name}" for name in ("mean", "std", "low95", "high95")]
    head: Row = {"difference_to": comparison.baseline if found else "", "pairs": found.n if found else ""}
    return head | dict(zip(names, values, strict=True))
