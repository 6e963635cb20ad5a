"""The report of `ranet evaluate` on a network's scores: tables, figures and a summary, in one folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console

from ranet.calibration.policies.exit_policy import ExitPolicy
from ranet.calibration.policies.outcome import Costs, PolicyOutcome, evaluate_policy
from ranet.calibration.scores.exit_scores import ExitScores
from ranet.cost.units import CostScale
from ranet.evaluation.cells import accuracy_column, interval_of, interval_values, share_column, share_values, with_unit
from ranet.evaluation.curves.anytime import AnytimeCurve, anytime_curve
from ranet.evaluation.curves.budgeted import BudgetedCurve, budgeted_curve
from ranet.evaluation.curves.difficulty import difficulty_table
from ranet.evaluation.curves.published import PublishedPoint, published_points
from ranet.evaluation.figures.curves import anytime_figure, budgeted_figure, difficulty_figure, shares_figure
from ranet.evaluation.figures.gallery import Pictures, gallery_figure
from ranet.evaluation.reports.document import Document
from ranet.support.console import new_console, say
from ranet.support.sheet import Column, Row, Sheet


@dataclass(frozen=True, eq=False)
class Report:
    """The files of a report, and its numbers.

    Attributes:
        folder: folder of the files.
        files: names of the files, in the order of writing.
        anytime: each exit on all test images.
        budgeted: the sweep; None without validation scores.
        policy: policy that the exit table, the gallery and the difficulty figure show; None without one.
        outcome: outcome of this policy on test.
    """

    folder: Path
    files: tuple[str, ...]
    anytime: AnytimeCurve
    budgeted: BudgetedCurve | None
    policy: ExitPolicy | None
    outcome: PolicyOutcome | None


def write_report(
    folder: str | Path,
    test: ExitScores,
    costs: Costs,
    unit: str,
    *,
    validation: ExitScores | None = None,
    policy: ExitPolicy | None = None,
    published: str | Sequence[PublishedPoint] | None = None,
    images: Pictures | None = None,
    class_names: Sequence[str] | None = None,
    sizes: npt.ArrayLike | None = None,
    size_name: str = "size",
    title: str = "",
    name: str = "ours",
    console: Console | None = None,
) -> Report:
    """Evaluate test scores, write tables and figures into a folder, and print the tables.

    It always writes anytime.csv, anytime.png, exits.csv and report.json; with validation scores, budgeted.csv,
    budgeted.png and shares.png; with a policy (the given one, or that of ratio 1 of the sweep) and images, gallery.png;
    with a policy and sizes, difficulty.png.

    Args:
        folder: folder of the files, made if it is missing; earlier files of the same names are replaced.
        test: scores of K exits and N images.
        costs: (K,) cumulative cost of each exit, or a `CostTable`; all exits are used.
        unit: unit of the costs: "macs", "paper_ops", "ms" ...
        validation: scores on held-out training images, for the sweep over the papers' 39 ratios.
        policy: policy for exits.csv, the gallery and the difficulty figure.
        published: name of a data set, or points, to draw in the figures; drawn only if the unit is paper ops.
        images: images of the test set, in its order; see `gallery_figure`.
        class_names: names by class index.
        sizes: (N,) a number for each test image that may make it hard; see `difficulty_table`.
        size_name: name of the sizes, with their unit.
        title: title of the figures and the summary, such as "RANet on CIFAR-10".
        name: name of our curve in the legends.
        console: console for the tables; `Console(quiet=True)` prints none.

    Raises:
        UserError: if scores, costs, policy, images or sizes do not match. Nothing is written then.
    """
    console = console or new_console()
    anytime = anytime_curve(test, costs)
    # With one exit there is nothing to decide, and the sweep would be one point.
    swept = validation if test.num_exits > 1 else None
    budgeted = None if swept is None else budgeted_curve(swept, test, costs)
    if policy is None and budgeted is not None:
        policy = budgeted.policy(int(np.abs(budgeted.ratios - 1).argmin()))
    outcome = None if policy is None else evaluate_policy(policy, test, costs)
    points = published_points(published) if isinstance(published, str) else tuple(published or ())
    if points and unit != "paper_ops":
        say(console, "The published points are in paper ops: unit=paper_ops draws them.")
        points = ()

    exits = exits_sheet(anytime, unit, outcome, "" if policy is None else _name(policy))
    tables = {"anytime.csv": Sheet("Exits", anytime_rows(anytime, unit)), "exits.csv": exits}
    figures = {"anytime.png": anytime_figure(anytime, unit, points, _join(title, "Anytime prediction"), name)}
    shown = [exits]
    if budgeted is not None:
        tables["budgeted.csv"] = budgeted_sheet(budgeted, anytime.cost, unit)
        shown.append(some_points(tables["budgeted.csv"], budgeted.mean_cost))
        heading = _join(title, "Budgeted batch classification")
        figures["budgeted.png"] = budgeted_figure(budgeted, anytime, unit, points, heading, name)
        heading = _join(title, "Where images leave along the budget")
        figures["shares.png"] = shares_figure(budgeted, anytime.cost, unit, heading)
    if policy is not None and images is not None:
        heading = _join(title, f"Images that left at each exit ({_name(policy)})")
        figures["gallery.png"] = gallery_figure(policy, test, images, class_names, title=heading)
    if policy is not None and sizes is not None:
        table = difficulty_table(policy, test, costs, sizes)
        heading = _join(title, f"Easy and hard images ({_name(policy)})")
        figures["difficulty.png"] = difficulty_figure(table, anytime.cost, unit, size_name, heading)

    files = (*tables, *figures, "report.json")
    summary: dict[str, Any] = {
        "title": title,
        "unit": unit,
        "test_images": test.num_images,
        "validation_images": validation.num_images if validation is not None else None,
        "exits": exits.rows,
        "files": files,
    }
    if policy is not None and outcome is not None:
        summary["policy"] = {
            "name": _name(policy),
            "thresholds": policy.thresholds,
            "accuracy": outcome.accuracy,
            "accuracy_interval": interval_of(outcome.accuracy, test.num_images),
            "mean_cost": outcome.mean_cost,
        }
    if budgeted is not None:
        summary["budgeted"] = tables["budgeted.csv"].rows
    document = Document(title, shown, files={**tables, **figures, "report.json": summary})
    document.write(Path(folder))
    document.print(console, f"Written to {folder}: {', '.join(files)}")
    return Report(Path(folder), files, anytime, budgeted, policy, outcome)


def anytime_rows(curve: AnytimeCurve, unit: str) -> list[Row]:
    """Return one row for each exit: cost and accuracy."""
    return [
        {
            "exit": k + 1,
            with_unit("cost", unit): float(curve.cost[k]),
            "top1_percent": 100 * float(curve.top1[k]),
            "top5_percent": 100 * float(curve.top5[k]),
            **interval_values("top1_percent", interval_of(curve.top1[k], curve.images), 100),
            **interval_values("top5_percent", interval_of(curve.top5[k], curve.images), 100),
        }
        for k in range(len(curve.cost))
    ]


def exits_sheet(
    curve: AnytimeCurve, unit: str, outcome: PolicyOutcome | None = None, policy_name: str = "the policy given"
) -> Sheet:
    """Return the table of the exits: the anytime row, its calibration, and its share under a policy."""
    scale = CostScale.of(curve.cost, unit)
    columns = [
        Column("exit"),
        Column("cost", with_unit("cost", unit), scale.text),
        accuracy_column("top-1 %", "top1_percent"),
        Column("top-5 %", "top5_percent", ".2f"),
        Column("ECE", "calibration_error", ".4f"),
    ]
    values = {"calibration_error": curve.calibration_error, "mean_confidence": curve.confidence}
    caption = f"cost in {scale.label}; in brackets 95 % intervals"
    if outcome is not None:
        shares, right = "share_percent", "accuracy_of_those_that_left_percent"
        values |= {shares: 100 * outcome.exit_shares, right: 100 * outcome.accuracy_per_exit}
        columns += [Column("leave %", shares, ".2f"), Column("right of them %", right, ".2f")]
        caption += f"\nexits under: {policy_name}"
    rows = [
        row | {name: float(of[k]) for name, of in values.items()} for k, row in enumerate(anytime_rows(curve, unit))
    ]
    return Sheet("Exits", rows, columns, caption)


def budgeted_sheet(curve: BudgetedCurve, costs: npt.NDArray[np.float64], unit: str) -> Sheet:
    """Return the table of the sweep, one row for each ratio, under the reference's names where it has them."""
    scale, cost = CostScale.of(costs, unit), with_unit("test_mean", unit or "cost")
    rows: list[Row] = [
        {
            "ratio": float(ratio),
            "val_accuracy_percent": 100 * float(curve.validation_accuracy[i]),
            "test_accuracy_percent": 100 * float(curve.accuracy[i]),
            cost: float(curve.mean_cost[i]),
            **interval_values("test_accuracy_percent", interval_of(curve.accuracy[i], curve.images), 100),
            **{f"threshold_{k}": float(value) for k, value in enumerate(curve.thresholds[i], start=1)},
            **share_values("share", curve.exit_shares[i]),
            **share_values("accuracy", curve.accuracy_per_exit[i]),
        }
        for i, ratio in enumerate(curve.ratios)
    ]
    columns = [
        Column("ratio", form=".3g"),
        Column("mean cost", cost, scale.text),
        accuracy_column("top-1 %", "test_accuracy_percent"),
        share_column("share", len(costs)),
    ]
    caption = f"cost in {scale.label}; in brackets 95 % intervals"
    return Sheet("Budgeted batch classification", rows, columns, caption)


def some_points(sheet: Sheet, mean_cost: npt.NDArray[np.float64], points: int = 8) -> Sheet:
    """Return some rows of the sweep, evenly spread over the mean cost."""
    wanted = np.linspace(mean_cost.min(), mean_cost.max(), points)
    nearest = {int(np.abs(mean_cost - cost).argmin()) for cost in wanted}
    return replace(sheet, rows=[sheet.rows[i] for i in sorted(nearest, key=lambda i: mean_cost[i])])


def _name(policy: ExitPolicy) -> str:
    family, ratio = policy.metadata.get("policy", "given"), policy.metadata.get("ratio")
    return f"{family} policy" + (f", ratio {ratio:.3g}" if isinstance(ratio, int | float) else "")


def _join(title: str, what: str) -> str:
    return f"{title}\n{what}".strip()
