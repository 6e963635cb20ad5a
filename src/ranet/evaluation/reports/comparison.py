"""The folder of a comparison: CSV tables, a Markdown page and a figure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ranet.evaluation.comparison.comparison import Comparison
from ranet.evaluation.figures.comparison import comparison_figure
from ranet.evaluation.figures.style import save_figure
from ranet.evaluation.reports.comparison_tables import (
    Sheet,
    budget_comparison_rows,
    budget_sheets,
    exit_comparison_rows,
    exit_sheets,
    group_sheet,
    run_rows,
)
from ranet.evaluation.tables import write_csv
from ranet.support.files import written_whole

PAGE, FIGURE = "comparison.md", "comparison.png"


def write_comparison(folder: str | Path, comparison: Comparison, sources: Sequence[str] = ()) -> tuple[str, ...]:
    """Write exits.csv, runs.csv, comparison.md and comparison.png, and budgets.csv if there are budgets.

    Args:
        folder: folder of the files, made if it is missing; earlier files of the same names are replaced.
        comparison: what to write.
        sources: the folders that were searched for runs, for the page.

    Returns:
        The names of the files.
    """
    folder = Path(folder)
    tables = {"exits.csv": exit_comparison_rows(comparison), "runs.csv": run_rows(comparison)}
    if comparison.budgets:
        tables["budgets.csv"] = budget_comparison_rows(comparison)
    figure = comparison_figure(comparison, _title(comparison))
    page = comparison_page(comparison, sources)
    for name, rows in tables.items():
        write_csv(folder / name, rows)
    save_figure(figure, folder / FIGURE)
    with written_whole(folder / PAGE) as partial:
        partial.write_text(page, encoding="utf-8", errors="surrogateescape")
    if not comparison.budgets:  # a file of an earlier comparison would not match the other files
        (folder / "budgets.csv").unlink(missing_ok=True)
    return (*tables, FIGURE, PAGE)


def comparison_page(comparison: Comparison, sources: Sequence[str] = ()) -> str:
    """Return all tables as one Markdown page, with the figure, the notes and the list of runs."""
    runs = [(row["group"], row["seed"], f"`{row['run']}`", row["git_revision"] or "-") for row in run_rows(comparison)]
    searched = f"Found in {', '.join(f'`{source}`' for source in sources)}." if sources else "As given."
    headings = ("group", "seed", "run", "git revision")
    made_of = Sheet("Runs", searched, headings, tuple(tuple(map(str, row)) for row in runs), numbers=False)
    sheets = [group_sheet(comparison), *exit_sheets(comparison), *budget_sheets(comparison), made_of]
    notes = [f"- {note}" for note in comparison.notes]
    return "\n".join(
        [
            f"# {_title(comparison)}",
            "",
            f"![Accuracy against cost]({FIGURE})",
            "",
            *([*notes, ""] if notes else []),
            *(sheet.markdown() for sheet in sheets),
        ]
    )


def _title(comparison: Comparison) -> str:
    runs = comparison.runs
    groups = len(comparison.groups)
    counted = f"{groups} groups" if groups > 1 else f"{comparison.baseline}"
    number = f"{len(runs)} runs" if len(runs) > 1 else "one run"
    return f"{counted}, {number} on {runs[0].options['data.name']} ({runs[0].test.num_images:,} test images)"
