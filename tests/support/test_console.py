"""Tables at any width: no line is too long, no number is broken, nothing is left out."""

import io
import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from ranet.support.console import PIPE_WIDTH, accept_any_text, new_console, print_sheets, say
from ranet.support.sheet import Column, Sheet


def printed(sheet: Sheet, width: int) -> list[str]:
    file = io.StringIO()
    print_sheets(Console(file=file, width=width), sheet)
    return file.getvalue().splitlines()


def table_of(columns: int, rows: int, cell: Callable[[int, int], str], heading: str = "a heading of words") -> Sheet:
    names = [f"{heading} {k}" for k in range(1, columns)]
    cells = [{"row": f"row{i}"} | {name: cell(i, k) for k, name in enumerate(names, 1)} for i in range(rows)]
    return Sheet("A title", cells, [Column("row", left=True), *map(Column, names)], "A caption")


@given(columns=st.integers(2, 12), width=st.integers(30, 200), digits=st.integers(1, 12))
def test_every_number_is_there_unbroken_in_the_row_of_its_name(columns: int, width: int, digits: int) -> None:
    lines = printed(table_of(columns, 3, lambda i, k: f"{i}{k:02}.{'7' * digits} ±0.{k}"), width)
    assert max(map(cell_len, lines)) <= width
    for i in range(3):
        own = " ".join(line for line in lines if line.split()[:1] == [f"row{i}"])
        found = re.findall(r"\S+ ±\S+", own)
        assert found == [f"{i}{k:02}.{'7' * digits} ±0.{k}" for k in range(1, columns)]
    text = "\n".join(lines)
    assert text.count("A title") == text.count("A caption") == 1
    assert "…" not in text


def test_a_table_that_fits_is_in_one_piece_with_headings_in_one_line() -> None:
    lines = printed(table_of(4, 1, lambda i, k: "1.0"), 100)
    assert " ".join(lines[1].split()) == "row a heading of words 1 a heading of words 2 a heading of words 3"
    assert len(lines) == 4


def test_a_long_caption_is_not_squeezed_into_a_narrow_table() -> None:
    sheet = Sheet("", [{"x": 1.0}], caption="how to read it, at length: " + "word " * 12)
    *_, caption = printed(sheet, 120)
    assert caption.strip() == sheet.caption.strip()


def test_words_go_over_lines_before_columns_do() -> None:
    lines = printed(Sheet("", [{"name": "a_network", "what it is": "some words that say what it is"}]), 30)
    assert max(map(len, lines)) <= 30
    assert lines[0].split() == ["name", "what", "it", "is"]
    assert " ".join(" ".join(lines[1:]).split()) == "a_network some words that say what it is"


def test_a_cell_that_is_wider_than_the_console_is_folded() -> None:
    lines = printed(table_of(3, 1, lambda i, k: str(k) * 50), 40)
    assert max(map(len, lines)) <= 40
    text = "".join(lines)
    assert [text.count(digit) for digit in "12"] == [51, 51]  # and the number in the heading


def test_names_with_brackets_are_printed_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    console = new_console()
    print_sheets(console, Sheet("[red]", [{"class": "[bold]cat[/bold] :smile:"}]))
    say(console, "[a] :dog: " + "word " * 100)
    out = capsys.readouterr().out
    assert "[red]" in out
    assert "[bold]cat[/bold] :smile:" in out
    assert "[a] :dog: " + "word " * 100 in out


def test_a_pipe_is_wide_unless_columns_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert new_console().width == PIPE_WIDTH
    monkeypatch.setenv("COLUMNS", "60")
    assert new_console().width == 60


@pytest.mark.parametrize(
    ("encoding", "written"),
    [
        ("ascii", b"caf\xe9 \\u72ac \xb1".replace(b"\xb1", b"\\xb1")),
        ("latin-1", b"caf\xe9 \\u72ac \xb1"),
        ("utf-8", b"caf\xe9 " + "犬 ±".encode()),
    ],
)
def test_a_stream_writes_what_its_encoding_lacks(encoding: str, written: bytes) -> None:
    bytes_of = io.BytesIO()
    stream = io.TextIOWrapper(bytes_of, encoding=encoding)
    accept_any_text(stream)
    stream.write(b"caf\xe9".decode("utf-8", "surrogateescape") + " 犬 ±")
    stream.flush()
    assert bytes_of.getvalue() == written
