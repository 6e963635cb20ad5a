"""Tables: rows of values with full precision, and columns for readers."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from io import StringIO
from math import isnan
from pathlib import Path
from typing import Any

from ranet.support.files import write_text

Row = dict[str, Any]


@dataclass(frozen=True)
class Column:
    """A column as readers see it; a cell whose first value is None or NaN is a dash.

    Attributes:
        heading: heading of the column.
        keys: key of the column's values in the rows, or keys of several values; by default the heading.
        form: format of a value, such as ".2f", or a function from the values to a str.
        left: whether the cells are aligned to the left, for words; numbers are aligned to the right.
    """

    heading: str
    keys: str | Sequence[str] = ()
    form: str | Callable[..., str] = ""
    left: bool = False

    def cell(self, row: Mapping[str, Any]) -> str:
        """Return the cell of a row."""
        keys = (self.keys,) if isinstance(self.keys, str) else self.keys or (self.heading,)
        first, *others = (row[key] for key in keys)
        if first is None or (isinstance(first, float) and isnan(first)):
            return "-"
        return format(first, self.form) if isinstance(self.form, str) else self.form(first, *others)


@dataclass(frozen=True, eq=False)
class Sheet:
    r"""A table: all values for programs, and the columns that readers see.

    Attributes:
        title: title of the table.
        rows: values by key, one row each; all rows have the same keys.
        columns: columns for readers; by default one for each key, with words to the left.
        caption: how to read the table, in one line or more.
        below: rows of cells for readers alone, below the others.

    Example:
        >>> columns = [Column("exit"), Column("cost", "cost_macs", ".1e")]
        >>> sheet = Sheet("Exits", [{"exit": 1, "cost_macs": 2.5e6}], columns)
        >>> sheet.cells, sheet.csv()
        ([['1', '2.5e+06']], 'exit,cost_macs\n1,2500000\n')
    """

    title: str
    rows: Sequence[Row]
    columns: Sequence[Column] = ()
    caption: str = ""
    below: Sequence[Sequence[str]] = ()

    def __post_init__(self) -> None:
        if not self.columns and self.rows:
            shown = tuple(Column(name, (name,), left=isinstance(value, str)) for name, value in self.rows[0].items())
            object.__setattr__(self, "columns", shown)

    @property
    def headings(self) -> list[str]:
        """The headings that readers see."""
        return [column.heading for column in self.columns]

    @property
    def cells(self) -> list[list[str]]:
        """The rows that readers see, a cell for each heading."""
        return [*([column.cell(row) for column in self.columns] for row in self.rows), *map(list, self.below)]

    def markdown(self) -> str:
        """Return the table for a Markdown page, with title and caption before it."""
        rule = ["---" if column.left else "--:" for column in self.columns]
        lines = [
            " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in line)
            for line in (self.headings, rule, *self.cells)
        ]
        before = [f"## {self.title}", "", *([self.caption, ""] if self.caption else [])]
        return "\n".join([*before, *(f"| {line} |" for line in lines), ""])

    def html(self) -> str:
        """Return the table as an HTML element; cells of numbers have the class "number"."""
        caption = _html(f"{self.title}\n{self.caption}".strip())
        looks = ["" if column.left else ' class="number"' for column in self.columns]

        def line(tag: str, cells: Sequence[str]) -> str:
            inside = (f"<{tag}{look}>{_html(cell)}</{tag}>" for look, cell in zip(looks, cells, strict=True))
            return f"<tr>{''.join(inside)}</tr>"

        body = "\n".join(line("td", cells) for cells in self.cells)
        return (
            f"<table>\n<caption>{caption}</caption>\n<thead>\n{line('th', self.headings)}\n</thead>\n"
            f"<tbody>\n{body}\n</tbody>\n</table>\n"
        )

    def csv(self) -> str:
        """Return all values as CSV; the keys are the names of the columns, and floats have ten significant digits."""
        text = StringIO()
        writer = csv.DictWriter(text, list(self.rows[0]) if self.rows else self.headings, lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _full(value) for name, value in row.items()} for row in self.rows)
        return text.getvalue()

    def write_csv(self, path: str | Path) -> None:
        """Write all values into a CSV file, whole or not at all."""
        write_text(path, self.csv())


def sheet_of_cells(title: str, headings: Sequence[str], lines: Sequence[Sequence[str]], caption: str = "") -> Sheet:
    """Return a table of ready cells: words in the first column, numbers in the others."""
    columns = [Column(heading, left=not k) for k, heading in enumerate(headings)]
    return Sheet(title, [dict(zip(headings, line, strict=True)) for line in lines], columns, caption)


def _html(text: str) -> str:
    return escape(text).replace("\n", "<br>")


def _full(value: Any) -> Any:
    return format(value, ".10g") if isinstance(value, float) else value
