"""The report of `ranet evaluate` on a network's scores: tables, figures and a summary, in one folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console

from ranet.calibration.policies.exit_policy import ExitPolicy
from ranet.calibration.policies.outcome import Costs, PolicyOutcome, evaluate_policy
from ranet.calibration.scores.exit_scores import ExitScores
from ranet.evaluation.cells import interval_of
from ranet.evaluation.curves.anytime import AnytimeCurve, anytime_curve
from ranet.evaluation.curves.budgeted import BudgetedCurve, budgeted_curve
from ranet.evaluation.curves.difficulty import difficulty_table
from ranet.evaluation.curves.published import PublishedPoint, published_points
from ranet.evaluation.figures.curves import anytime_figure, budgeted_figure, shares_figure
from ranet.evaluation.figures.difficulty import difficulty_figure
from ranet.evaluation.figures.gallery import Pictures, gallery_figure
from ranet.evaluation.reports.document import Document
from ranet.evaluation.reports.network_tables import anytime_rows, budgeted_sheet, exits_sheet, some_points
from ranet.support.console import new_console, say
from ranet.support.sheet import Sheet


@dataclass(frozen=True, eq=False)
class Report:
    """The files of a report, and its numbers.

    Attributes:
        folder: folder of the files.
        files: names of the files, in the order of writing.
        anytime: each exit on all test images.
        budgeted: the sweep; None without validation scores.
        policy: policy that the exit table, the gallery and the difficulty figure show; None without one.
        outcome: outcome of this policy on test; None without a policy.
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


def _name(policy: ExitPolicy) -> str:
    family, ratio = policy.metadata.get("policy", "given"), policy.metadata.get("ratio")
    return f"{family} policy" + (f", ratio {ratio:.3g}" if isinstance(ratio, int | float) else "")


def _join(title: str, what: str) -> str:
    return f"{title}\n{what}".strip()
