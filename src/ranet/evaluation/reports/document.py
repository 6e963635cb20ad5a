"""A report: tables, sentences and figures for a console, a Markdown page and a folder of files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from rich.console import Console

from ranet.evaluation.figures.style import save_figure
from ranet.support.console import print_sheets, say
from ranet.support.files import write_text
from ranet.support.sheet import Sheet
from ranet.support.strict_json import strict_json


@dataclass(frozen=True, eq=False)
class Document:
    """What a command has found."""

    title: str  # title of the page
    sheets: Sequence[Sheet]  # tables for readers
    sentences: Sequence[str] = ()  # what the tables do not show
    # What is written beside the page, by file name: a sheet as CSV, a figure, or anything else as JSON.
    files: Mapping[str, Sheet | Figure | Mapping[str, Any]] = field(default_factory=dict)

    def print(self, console: Console, *more: str) -> None:
        """Print the tables, the sentences, and more sentences."""
        print_sheets(console, *self.sheets)
        say(console, *self.sentences, *more)

    def page(self) -> str:
        """Return everything as a Markdown page, which shows the figures of the files."""
        figures = [f"![{self.title}]({name})" for name, content in self.files.items() if isinstance(content, Figure)]
        said = "\n".join(f"- {sentence}" for sentence in self.sentences)
        parts = [f"# {self.title}", *figures, said, *(sheet.markdown().rstrip() for sheet in self.sheets)]
        return "\n\n".join(part for part in parts if part) + "\n"

    def write(self, folder: Path, page: str | None = None) -> list[Path]:
        """Write the files into a folder, and the page under the given name; return the paths.

        Earlier files of the same names are replaced.
        """
        for name, content in self.files.items():
            if isinstance(content, Sheet):
                content.write_csv(folder / name)
            elif isinstance(content, Figure):
                save_figure(content, folder / name)
            else:
                write_text(folder / name, strict_json(content))
        if page is not None:
            write_text(folder / page, self.page())
        return [folder / name for name in (*self.files, *([page] if page else []))]
