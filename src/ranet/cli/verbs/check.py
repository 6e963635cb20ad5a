"""ranet check: problems of a data set, before training."""

from __future__ import annotations

from omegaconf import DictConfig

from ranet.cli.inputs.build import build
from ranet.data.checks.health import TO_MEND, Health, examine, parts_of
from ranet.data.module import ImageData
from ranet.errors import UserError
from ranet.support.console import new_console, print_sheets, say
from ranet.support.sheet import Column, Sheet, sheet_of_cells

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
    heading, *rows = health.rows
    print_sheets(console, sheet_of_cells("", heading, rows))
    say(console, *_sentences(health, everything=config.output is None))
    if config.output is not None:
        _findings(health).write_csv(config.output)
        say(console, f"Written to {config.output}: everything to look at ({len(health.findings):,})")
    if health.to_mend:
        counts = [f"{TO_MEND[finding]} ({count:,})" for finding, count in health.to_mend.items()]
        raise UserError(f"Mend this before training: {', '.join(counts)}.")
    say(console, "Nothing must be mended.")


def _findings(health: Health) -> Sheet:
    """Return all findings, a row each."""
    names = ("path", "split", "class", "finding", "detail")
    rows = [dict(zip(names, each, strict=True)) for each in health.findings]
    return Sheet("Findings", rows, [Column(name, left=True) for name in names])


def _sentences(health: Health, everything: bool) -> list[str]:
    """Return the first findings of each kind, those to repair first."""
    lines = []
    for kind in dict.fromkeys([*TO_MEND, *(each.finding for each in health.findings)]):
        found = [each for each in health.findings if each.finding == kind]
        lines += [f"{kind}: {each.path}" + (f": {each.detail}" if each.detail else "") for each in found[:_NAMED]]
        if len(found) > _NAMED:
            where = "; output=FILE.csv lists all" if everything else ""
            lines.append(f"{kind}: and {len(found) - _NAMED:,} more{where}")
    return lines
