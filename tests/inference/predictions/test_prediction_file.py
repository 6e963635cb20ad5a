"""Tables of predictions: read back, they say what the engine said; half of one is never there."""

import csv
import errno
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranet.errors import UserError
from ranet.inference.engine.answers import Answers
from ranet.inference.predictions.file import PredictionTable, check_output, open_table
from ranet.support.files import WriteError

COSTS = np.array([4_031_744.0, 9_513_472.0, 15_761_152.0])


def answers(count: int, seed: int = 0, costs: np.ndarray = COSTS, unit: str = "macs") -> Answers:
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(count, 4)).astype(np.float32)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    exits = rng.integers(3, size=count)
    labels = probabilities.argmax(axis=1)
    executed = np.empty((len(labels), 0), dtype=np.bool_)
    return Answers(labels, probabilities, exits, probabilities.max(axis=1), costs[exits], logits, unit, executed)


CLASSES = ("cat", "dog, small", 'a "fish"', "bird\nof prey")
names_of_files = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), min_size=1, max_size=8)


@given(names=st.lists(names_of_files, max_size=9), seed=st.integers(0, 99), json_lines=st.booleans())
def test_rows_read_back_are_what_the_engine_said(names: list[str], seed: int, json_lines: bool) -> None:
    said, file = answers(len(names), seed), io.StringIO(newline="")
    table = PredictionTable(file, "macs", CLASSES, json_lines)
    table.write(names[:2], answers_of(said, slice(0, 2)))
    table.write(names[2:], answers_of(said, slice(2, None)))
    file.seek(0)
    rows = [json.loads(line) for line in file] if json_lines else list(csv.DictReader(file))
    assert [row["image"] for row in rows] == names
    assert [row["class_name"] for row in rows] == [CLASSES[label] for label in said.labels]
    assert [int(row["class_index"]) for row in rows] == said.labels.tolist()
    assert [int(row["exit"]) for row in rows] == (said.exits + 1).tolist()
    assert [float(row["cost_macs"]) for row in rows] == said.costs.tolist()
    # Every bit of the float32 is there, and no digit more.
    assert [np.float32(row["probability"]) for row in rows] == said.confidences.tolist()
    assert all(len(str(row["probability"])) <= 14 for row in rows)


def answers_of(said: Answers, rows: slice) -> Answers:
    names = ("labels", "probabilities", "exits", "confidences", "costs", "logits", "executed")
    return Answers(**{name: getattr(said, name)[rows] for name in names}, unit=said.unit)


def test_csv_as_people_read_it(tmp_path: Path) -> None:
    said = answers(2, seed=1)
    with open_table(str(tmp_path / "new" / "out.csv"), "macs", CLASSES[:1] * 4) as table:
        table.write(["a.png", "b,c.png"], said)
    text = (tmp_path / "new" / "out.csv").read_text()
    probabilities = [str(value) for value in said.confidences]
    assert text.splitlines() == [
        "image,class_name,class_index,probability,exit,cost_macs",
        f"a.png,cat,{said.labels[0]},{probabilities[0]},{said.exits[0] + 1},{COSTS[said.exits[0]]:.0f}",
        f'"b,c.png",cat,{said.labels[1]},{probabilities[1]},{said.exits[1] + 1},{COSTS[said.exits[1]]:.0f}',
    ]


def test_json_lines_without_names_and_in_milliseconds(tmp_path: Path) -> None:
    said = answers(3, costs=np.array([0.25, 0.5, 1.0]), unit="ms")
    with open_table(str(tmp_path / "out.jsonl"), "ms") as table:
        table.write(["0", "1", "2"], said)
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["class_index"] for row in rows] == said.labels.tolist()
    assert [row["class_name"] for row in rows] == [None, None, None]
    assert [row["cost_ms"] for row in rows] == said.costs.tolist()
    assert list(rows[0]) == ["image", "class_name", "class_index", "probability", "exit", "cost_ms"]


def test_costs_without_a_unit_are_named_cost(tmp_path: Path) -> None:
    with open_table(str(tmp_path / "out.csv"), ""):
        pass
    assert (tmp_path / "out.csv").read_text() == "image,class_name,class_index,probability,exit,cost\n"


def test_standard_output_gets_whole_rows_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    with open_table("-", "macs") as table:
        table.write(["a"], answers(1))
        assert capsys.readouterr().out.endswith("\n")
        table.write(["b"], answers(1))
        assert capsys.readouterr().out.startswith("b,")


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_names_that_are_no_text_come_back_as_the_bytes_they_are(suffix: str, tmp_path: Path) -> None:
    name = os.fsdecode(b"latin-\xe4.png")
    with open_table(str(tmp_path / f"out.{suffix}"), "macs") as table:
        table.write([name], answers(1))
    with (tmp_path / f"out.{suffix}").open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        (row,) = csv.DictReader(file) if suffix == "csv" else map(json.loads, file)
    assert os.fsencode(row["image"]) == b"latin-\xe4.png"


def test_the_head_comes_with_the_first_rows_and_not_with_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError), open_table("-", "macs"):
        raise RuntimeError
    assert not capsys.readouterr().out
    with open_table("-", "macs"):
        assert not capsys.readouterr().out
    assert capsys.readouterr().out == "image,class_name,class_index,probability,exit,cost_macs\n"


def test_json_that_others_cannot_read_is_not_written(tmp_path: Path) -> None:
    said = answers(2)
    said.confidences[1] = np.nan
    with pytest.raises(ValueError, match="not JSON compliant"), open_table(str(tmp_path / "out.jsonl"), "") as table:
        table.write(["a", "b"], said)
    assert not list(tmp_path.iterdir())


def test_a_table_is_whole_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    path.write_text("earlier\n")

    def write_half() -> None:
        with open_table(str(path), "macs") as table:
            table.write(["a"], answers(1))
            assert path.read_text() == "earlier\n"
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()
    assert path.read_text() == "earlier\n"
    assert [file.name for file in tmp_path.iterdir()] == ["out.csv"]


def test_where_nothing_can_be_written_one_sentence_says_so(tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    for output, message in (
        ("out.txt", r"^output=out.txt must end in .csv or .jsonl, or be - for standard output.$"),
        ("out", "must end in .csv"),
        ("", "must end in .csv"),
        (str(tmp_path / "folder.csv"), "is a folder; name the file in it, such as .*/folder.csv/predictions.csv"),
    ):
        with pytest.raises(UserError, match=message):
            check_output(output)
    with (
        pytest.raises(WriteError, match=r"^/proc/out.csv cannot be written \(.*\); choose another place"),
        open_table("/proc/out.csv", ""),
    ):
        pass


def test_a_full_disk_is_said_and_the_file_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def write() -> None:
        with open_table(str(path), "macs") as table:
            monkeypatch.setattr(PredictionTable, "write", full)
            table.write(["a"], answers(1))

    path = tmp_path / "out.csv"
    with pytest.raises(WriteError, match=rf"^{path} cannot be written \(No space left on device\); free some .*\.$"):
        write()
    assert not list(tmp_path.iterdir())
