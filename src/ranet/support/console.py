"""The console: tables that are read at any width, and sentences that are never cut."""

from __future__ import annotations

import codecs
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from io import TextIOWrapper
from textwrap import wrap
from typing import Any, TextIO

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ranet.support.sheet import Column, Sheet

#: Columns of a table through a pipe, where nothing says how wide the reader's window is.
PIPE_WIDTH = 160
_ANY_TEXT = "ranet"
_GAP = 2  # spaces between columns


def new_console(stderr: bool = False) -> Console:
    """Return a console as wide as the terminal (or $COLUMNS), and through a pipe `PIPE_WIDTH` columns wide.

    Texts are printed as they are: a class that is called [red] colours nothing.
    """
    terminal = (sys.stderr if stderr else sys.stdout).isatty()
    width = None if terminal or os.environ.get("COLUMNS", "").isdigit() else PIPE_WIDTH
    return Console(stderr=stderr, width=width, markup=False, emoji=False)


def accept_any_text(stream: TextIO) -> None:
    """Let a stream write what its encoding lacks: bytes of file names as they are, other characters as escapes."""
    if isinstance(stream, TextIOWrapper):
        codecs.register_error(_ANY_TEXT, _written_anyway)
        stream.reconfigure(errors=_ANY_TEXT)


def print_sheets(console: Console, *sheets: Sheet) -> None:
    """Print tables so that no cell is cut.

    Where a table is too wide for the console, headings and columns of words go over several lines. Where that is not
    enough, the columns are printed in parts one below the other, each with the first column again. Numbers, which stand
    on the right, and single words are never broken.
    """
    for number, sheet in enumerate(sheets):
        if number:
            console.print()
        if sheet.title:
            console.print(Text(sheet.title, style="table.title"))
        for table in _parts(console.width, sheet):
            console.print(table)
        if sheet.caption:
            console.print(Text(sheet.caption, style="table.caption"))


def say(console: Console, *sentences: str) -> None:
    """Print sentences, a line each, for the terminal to wrap."""
    for sentence in sentences:
        console.print(sentence, soft_wrap=True)


def _written_anyway(error: UnicodeError) -> tuple[str | bytes, int]:
    assert isinstance(error, UnicodeEncodeError)
    first = UnicodeEncodeError(error.encoding, error.object, error.start, error.start + 1, error.reason)
    try:
        return codecs.lookup_error("surrogateescape")(first)
    except UnicodeEncodeError:
        return codecs.lookup_error("backslashreplace")(first)


def _parts(width: int, sheet: Sheet) -> Iterator[Table]:
    cells = list(zip(*sheet.cells, strict=True)) or [()] * len(sheet.columns)
    natural = [max(map(_width, (heading, *own))) for heading, own in zip(sheet.headings, cells, strict=True)]
    too_wide = _together(natural) > width
    columns = [_layout(column, own, width, too_wide) for column, own in zip(sheet.columns, cells, strict=True)]
    groups = [[0]]
    for k in range(1, len(columns)):
        if len(groups[-1]) > 1 and _together(columns[i]["min_width"] for i in (*groups[-1], k)) > width:
            groups.append([0])
        groups[-1].append(k)
    for group in groups:
        fits = _together(columns[k]["min_width"] for k in group) <= width  # if not, a number alone is wider than that
        table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False)
        for k in group:
            table.add_column(**columns[k] if fits else columns[k] | {"min_width": None, "no_wrap": False})
        for row in sheet.cells:
            table.add_row(*(Text(row[k]) for k in group))
        yield table


def _layout(column: Column, cells: Sequence[str], width: int, too_wide: bool) -> dict[str, Any]:
    """Return the arguments of rich's column; its width is the least without breaking a number or a word."""
    widest = max(map(_width, cells), default=1)
    wraps = column.left and (widest > width // 2 or any(" " in cell for cell in cells))
    words = " ".join((column.heading, *(cells if wraps else ()))).split()
    longest = max(map(cell_len, words), default=1)
    narrow = too_wide and not wraps
    heading = "\n".join(wrap(column.heading, max(widest, longest))) if narrow else column.heading
    return {
        "header": Text(heading),
        "justify": "left" if column.left else "right",
        "overflow": "fold",
        "min_width": longest if wraps else max(widest, _width(heading)),
        "no_wrap": not wraps,
    }


def _together(widths: Iterable[int]) -> int:
    return sum(width + _GAP for width in widths) - _GAP


def _width(cell: str) -> int:
    """Return the width of the widest line of a cell."""
    return max(map(cell_len, cell.splitlines()), default=0)
