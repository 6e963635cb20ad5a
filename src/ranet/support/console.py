"""The console: tables that are read at any width, and sentences that are never cut."""

from __future__ import annotations

import codecs
import os
import sys
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import replace
from io import TextIOWrapper
from textwrap import wrap
from typing import TextIO

from rich.cells import cell_len
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

#: Columns of a table through a pipe, where nothing says how wide the reader's window is.
PIPE_WIDTH = 160
_ANY_WIDTH = 10_000
_ANY_TEXT = "ranet"


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


def print_table(console: Console, table: Table) -> None:
    """Print a table so that no cell is cut.

    Where it is too wide for the console, headings and columns of text go over several lines; where that is not enough,
    the columns are printed in parts one below the other, each with the first column again. Columns of numbers, which
    stand on the right, and of single words are never broken.
    """
    *others, last = _parts(console, table)
    for part in others:
        console.print(part)
    caption = None if table.caption is None else str(table.caption)
    below = caption is not None and _width(caption) > _measured(console, last, range(len(last.columns))).maximum
    last.caption = None if below else caption
    console.print(last)
    if below:  # and not squeezed into the width of the table
        console.print(caption, style="table.caption")


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


def _parts(console: Console, table: Table) -> Iterator[Table]:
    everything = range(len(table.columns))
    too_wide = _measured(console, table, everything).maximum > console.width
    for column in table.columns:
        column.overflow = "fold"
        widest = max(map(_width, column.cells), default=1)
        words = any(" " in str(cell) for cell in column.cells) or widest > console.width // 2
        if column.justify == "right" or not words:
            column.no_wrap = True
            if too_wide:
                column.header = _narrow(str(column.header), widest)
            column.min_width = max(map(_width, (column.header, column.footer, *column.cells)))
    groups: list[list[int]] = [[0]]
    for k in everything[1:]:
        if len(groups[-1]) > 1 and _measured(console, table, [*groups[-1], k]).minimum > console.width:
            groups.append([0])
        groups[-1].append(k)
    for number, group in enumerate(groups):
        part = _with_columns(table, group)
        part.title = table.title if number == 0 else None
        part.caption = None
        if _measured(console, table, group).minimum > console.width:  # a number alone is wider than that
            for column in part.columns:
                column.no_wrap, column.min_width = False, None
        yield part


def _measured(console: Console, table: Table, columns: Sequence[int]) -> Measurement:
    """The least and the natural width of a table of some columns."""
    options = console.options.update(width=_ANY_WIDTH)
    return Measurement.get(console, options, _with_columns(table, columns))


def _with_columns(table: Table, columns: Sequence[int]) -> Table:
    part = copy(table)
    part.columns = [replace(table.columns[k], _index=index) for index, k in enumerate(columns)]
    return part


def _width(cell: object) -> int:
    """The width of the widest line of a cell."""
    return max(map(cell_len, str(cell).splitlines()), default=0)


def _narrow(heading: str, width: int) -> str:
    """The heading in lines of this width, or of its longest word."""
    longest = max(map(len, heading.split()), default=1)
    return "\n".join(line for part in heading.splitlines() for line in wrap(part, max(width, longest)))
