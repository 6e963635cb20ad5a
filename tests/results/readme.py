"""The README of the results: its sentences and tables, and whether every number in them comes from a file."""

import csv
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np

RESULTS = Path(__file__).resolve().parents[2] / "experiments" / "results"
README = (RESULTS / "README.md").read_text()
Rows = list[dict[str, str]]


@cache
def rows(path: str) -> Rows:
    """The rows of a CSV file."""
    with (RESULTS / path).open(newline="") as file:
        return list(csv.DictReader(file))


def column(table: Rows, name: str) -> np.ndarray:
    return np.array([float(row[name]) for row in table])


def span(values: np.ndarray, form: str = ".2f") -> str:
    """Least to largest, as a sentence has it."""
    return f"{values.min():{form}} to {values.max():{form}}"


def exits(run: str) -> tuple[np.ndarray, np.ndarray]:
    """Cost in millions and accuracy of the exits of a small network."""
    table = rows(f"{run}/anytime.csv")
    return column(table, "cost_paper_ops") / 1e6, column(table, "top1_percent")


def section(name: str) -> str:
    """The text below a heading."""
    return README.split(f"\n## {name}\n")[1].split("\n## ")[0]


def prose(name: str) -> str:
    """The sentences of a section in one line, without the targets of links."""
    lines = [line for line in section(name).splitlines() if not line.startswith(("    ", "|", "![", "#"))]
    return re.sub(r"\]\([^)]*\)", "]", " ".join(" ".join(lines).split()))


def check_section(
    name: str, sentences: Sequence[str], table: Sequence[str], without_file: Sequence[str], other_rows: str = "$^"
) -> None:
    """Check that a section says what files say, and has no other numbers than these and those that have no file.

    Args:
        name: its heading.
        sentences: parts of sentences, made from the files.
        table: the rows of its tables, made from the files.
        without_file: parts of sentences with numbers that were set, or seen once.
        other_rows: a pattern of rows that are checked otherwise.
    """
    text = prose(name)
    for part in (*sentences, *without_file):
        assert part in text
    lines = section(name).splitlines()
    in_tables = [
        line
        for line, following in zip(lines, [*lines[1:], ""], strict=True)
        if line.startswith("| ") and not following.startswith("|--") and not re.search(other_rows, line)
    ]
    assert in_tables == list(table)
    for part in sorted((*sentences, *without_file), key=len, reverse=True):
        text = text.replace(part, "...")
    text = re.sub(r"`[^`]*`|\bexits? \d(, \d)*( (and|to) \d)?", "", text)
    assert re.findall(r"(?<![\w.,-])[-+]?\d[\d.,]*(?![\w-]).{,20}", text) == []
