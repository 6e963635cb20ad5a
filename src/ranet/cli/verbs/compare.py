"""ranet compare: mean and spread of finished runs over their seeds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from omegaconf import DictConfig

from ranet.cli.options.shared import listed
from ranet.cli.outputs.run_folder import refuse_record_of_another, write_record
from ranet.errors import UserError
from ranet.evaluation.comparison.comparison import compare
from ranet.evaluation.comparison.finished_runs import evaluate_command, find_runs, read_run
from ranet.evaluation.reports.comparison import budget_sheets, exit_sheets, write_comparison
from ranet.support.console import new_console, print_sheets, say
from ranet.support.progress import Bar

BUDGETS_SHOWN = 8


def run(config: DictConfig) -> None:
    """Compare, as the configuration says."""
    output = Path(config.output)
    refuse_record_of_another(output)
    unit = config.unit
    folders = list(map(str, listed(config.runs)))
    found = find_runs(folders)
    unfinished = [
        f"{run} is not evaluated and left out: continue it (resume=true), or {evaluate_command(run)}"
        for run in found.unfinished
    ]
    if not found.finished:
        raise UserError("; ".join([f"There is no finished run in {', '.join(folders)}", *unfinished]) + ".")
    with Bar("Comparing runs"):
        comparison = compare(
            [read_run(folder, unit) for folder in found.finished],
            unit,
            keys=None if config.groups is None else list(map(str, listed(config.groups))),
            baseline=None if config.baseline is None else str(config.baseline),
            budgets=config.budgets,
        )
    comparison = replace(comparison, notes=(*(f"{line}." for line in unfinished), *comparison.notes))

    write_record(output, config)
    write_comparison(output, comparison, folders)
    console = new_console()
    print_sheets(console, *exit_sheets(comparison), *budget_sheets(comparison, BUDGETS_SHOWN))
    say(console, *(f"Note: {note}" for note in comparison.notes), f"Written to {output}")
