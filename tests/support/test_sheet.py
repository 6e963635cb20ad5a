"""One table, for a console, Markdown, HTML and CSV."""

import csv
import os
from math import nan
from pathlib import Path
from xml.etree import ElementTree

import pytest

from ranet.support.sheet import Column, Sheet, sheet_of_cells

ROWS = [
    {"name": "a|b", "share": 1 / 3, "share_low": 0.25, "budget": nan, "note": "first\nsecond"},
    {"name": '<i>&"', "share": 2e9, "share_low": nan, "budget": None, "note": ""},
]
SHEET = Sheet(
    "Shares <of> all",
    ROWS,
    [
        Column("name", left=True),
        Column("share %", ("share", "share_low"), lambda share, low: f"{share:.2g} ({low:.2g})"),
        Column("budget", form=".3f"),
        Column("note", left=True),
    ],
    "in percent & so on\nin brackets the lower end",
    below=[("all", "1", "", "")],
)


def test_readers_see_the_columns_and_programs_all_values(tmp_path: Path) -> None:
    assert SHEET.headings == ["name", "share %", "budget", "note"]
    assert SHEET.cells[0] == ["a|b", "0.33 (0.25)", "-", "first\nsecond"]
    assert SHEET.cells[1] == ['<i>&"', "2e+09 (nan)", "-", ""]
    SHEET.write_csv(tmp_path / "all.csv")
    with (tmp_path / "all.csv").open(newline="") as file:
        first, second = csv.DictReader(file)
    assert list(first) == list(ROWS[0])
    assert (first["share"], second["share"], first["budget"], second["budget"]) == (
        "0.3333333333",
        "2000000000",
        "nan",
        "",
    )
    assert (first["note"], second["name"]) == (ROWS[0]["note"], ROWS[1]["name"])


def test_a_markdown_table_has_a_line_for_each_row() -> None:
    assert SHEET.markdown().splitlines() == [
        "## Shares <of> all",
        "",
        "in percent & so on",
        "in brackets the lower end",
        "",
        "| name | share % | budget | note |",
        "| --- | --: | --: | --- |",
        "| a\\|b | 0.33 (0.25) | - | first second |",
        '| <i>&" | 2e+09 (nan) | - |  |',
        "| all | 1 |  |  |",
    ]


def test_an_html_table_escapes_what_it_says() -> None:
    html = SHEET.html()
    table = ElementTree.fromstring(html.replace("<br>", "<br/>"))
    assert [head.text for head in table.iter("th")] == SHEET.headings
    rows = [[cell.text or "" for cell in row] for row in table.find("tbody")]
    assert rows == [["a|b", "0.33 (0.25)", "-", "first"], *SHEET.cells[1:]]
    assert [cell.get("class") for cell in table.find("tbody")[0]] == [None, "number", "number", None]
    assert "<caption>Shares &lt;of&gt; all<br>in percent &amp; so on<br>in brackets" in html


def test_without_columns_all_are_shown_and_words_stand_on_the_left() -> None:
    sheet = Sheet("", [{"name": "a", "count": 3}])
    assert [(column.heading, column.left) for column in sheet.columns] == [("name", True), ("count", False)]
    assert (
        sheet.markdown().count("count") == sheet_of_cells("", ["name", "count"], [["a", "3"]]).csv().count("count") == 1
    )


def test_without_rows_there_is_a_head() -> None:
    assert Sheet("", [], [Column("a"), Column("b")]).csv() == "a,b\n"


def test_names_of_files_that_are_not_utf8_are_written_byte_by_byte(tmp_path: Path) -> None:
    Sheet("", [{"file": os.fsdecode(b"caf\xe9.png")}]).write_csv(tmp_path / "files.csv")
    assert (tmp_path / "files.csv").read_bytes() == b"file\ncaf\xe9.png\n"


def test_a_value_that_is_missing_is_an_error() -> None:
    with pytest.raises(KeyError):
        _ = Sheet("", [{"a": 1}], [Column("b")]).cells
