"""ranet check: problems of a data set, before training."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig
from rich.table import Table

from ranet.cli.inputs.build import build
from ranet.data.checks.health import TO_MEND, Finding, Health, examine
from ranet.data.checks.parts import parts_of
from ranet.data.module import ImageData
from ranet.errors import UserError
from ranet.support.console import new_console, print_table, say
from ranet.support.files import written_whole

_NAMED = 5  # findings of a kind that are printed


def run(config: DictConfig) -> None:
    """Look at the data set, as the configuration says.

    Raises:
        UserError: something must be mended.
    """
    data: ImageData = build("data", config.data)
    data.prepare_data()
    health = examine(parts_of(data))
    console = new_console()
    print_table(console, _table(health))
    say(console, *_sentences(health, everything=config.output is None))
    if config.output is not None:
        write_findings(Path(config.output), health.findings)
        say(console, f"Written to {config.output}: everything to look at ({len(health.findings):,})")
    if health.to_mend:
        counts = [f"{TO_MEND[finding]} ({count:,})" for finding, count in health.to_mend.items()]
        raise UserError(f"Mend this before training: {', '.join(counts)}.")
    say(console, "Nothing must be mended.")


def write_findings(path: Path, findings: Sequence[Finding]) -> None:
    """Write findings as CSV, one row each; file names that are not UTF-8 keep their bytes."""
    columns = ["path", "split", "class", "finding", "detail"]
    with (
        written_whole(path) as partial,
        partial.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
    ):
        csv.writer(file).writerows([columns, *findings])


def _table(health: Health) -> Table:
    heading, *rows = health.rows
    table = Table(box=None)
    for i, name in enumerate(heading):
        table.add_column(name, justify="right" if i else "left")
    for row in rows:
        table.add_row(*row)
    return table


def _sentences(health: Health, everything: bool) -> list[str]:
    """Return the first findings of each kind, those to repair first."""
    kinds = list(dict.fromkeys([*TO_MEND, *(each.finding for each in health.findings)]))
    lines = []
    for kind in kinds:
        found = [each for each in health.findings if each.finding == kind]
        if not found:
            continue
        shown = found[:_NAMED]
        lines += [f"{kind}: {each.path}" + (f": {each.detail}" if each.detail else "") for each in shown]
        if len(found) > len(shown):
            where = "; output=FILE.csv lists all" if everything else ""
            lines.append(f"{kind}: and {len(found) - len(shown):,} more{where}")
    return lines
