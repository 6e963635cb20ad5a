"""A document on a console, as a page, and as files."""

import io
import json
from math import nan
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.image import imread
from rich.console import Console

from ranet.evaluation.reports.document import Document
from ranet.support.sheet import Column, Sheet

SHEET = Sheet("Exits", [{"exit": 1, "cost": 2.0}], [Column("exit")], "how to read it")


def document() -> Document:
    figure = Figure(figsize=(1, 1))
    figure.text(0.1, 0.5, "drawn")
    files = {"exits.csv": SHEET, "all.json": {"cost": nan}, "drawn.png": figure}
    return Document("A network", [SHEET, SHEET], ["It is [bold] and good."], files)


def test_the_page_has_figures_sentences_and_tables() -> None:
    table = ["## Exits", "how to read it", "| exit |\n| --: |\n| 1 |"]
    page = document().page()
    assert page.split("\n\n") == [
        "# A network",
        "![A network](drawn.png)",
        "- It is [bold] and good.",
        *table,
        *table[:-1],
        f"{table[-1]}\n",
    ]
    assert Document("Alone", []).page() == "# Alone\n"


def test_files_are_of_the_kind_of_their_content(tmp_path: Path) -> None:
    written = document().write(tmp_path / "new", "page.md")
    assert [path.name for path in written] == ["exits.csv", "all.json", "drawn.png", "page.md"]
    assert written[0].read_text() == "exit,cost\n1,2\n"
    assert json.loads(written[1].read_text()) == {"cost": None}
    assert imread(written[2]).min() < 0.5
    assert written[3].read_text() == document().page()
    assert len(document().write(tmp_path / "other")) == len(list((tmp_path / "other").iterdir())) == 3


def test_it_is_printed_without_files() -> None:
    output = io.StringIO()
    document().print(Console(file=output, width=40, markup=False), "Written somewhere")
    assert output.getvalue().splitlines() == [
        *("Exits", "exit", "   1", "how to read it", ""),
        *("Exits", "exit", "   1", "how to read it", "It is [bold] and good.", "Written somewhere"),
    ]
