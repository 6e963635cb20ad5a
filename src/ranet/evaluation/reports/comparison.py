"""The report of `ranet compare`: CSV tables, a Markdown page and a figure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ranet.evaluation.comparison.comparison import Comparison
from ranet.evaluation.figures.comparison import comparison_figure
from ranet.evaluation.reports.comparison_tables import (
    budget_rows,
    budget_sheets,
    exit_rows,
    exit_sheets,
    group_sheet,
    run_sheet,
)
from ranet.evaluation.reports.document import Document
from ranet.support.sheet import Sheet

PAGE, BUDGETS = "comparison.md", "budgets.csv"


def write_comparison(folder: str | Path, comparison: Comparison, sources: Sequence[str] = ()) -> tuple[str, ...]:
    """Write exits.csv, runs.csv, comparison.md and comparison.png, and budgets.csv if there are budgets.

    Args:
        folder: folder of the files, made if it is missing; earlier files of the same names are replaced.
        comparison: what to write.
        sources: the folders that were searched for runs, for the page.

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
    runs, title = run_sheet(comparison, searched), _title(comparison)
    files = {"exits.csv": Sheet("Exits", exit_rows(comparison)), "runs.csv": runs}
    if comparison.budgets:
        files[BUDGETS] = Sheet("Budgets", budget_rows(comparison))
    return Document(
        title,
        [group_sheet(comparison), *exit_sheets(comparison), *budget_sheets(comparison), runs],
        comparison.notes,
        {**files, "comparison.png": comparison_figure(comparison, title)},
    )


def _title(comparison: Comparison) -> str:
    runs = comparison.runs
    groups = len(comparison.groups)
    counted = f"{groups} groups" if groups > 1 else f"{comparison.baseline}"
    number = f"{len(runs)} runs" if len(runs) > 1 else "one run"
    return f"{counted}, {number} on {runs[0].options['data.name']} ({runs[0].test.num_images:,} test images)"
