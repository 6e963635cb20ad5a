"""ranet check: a table, a file of what to look at, and a status."""

import csv
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.end_to_end.commands import content
from tests.end_to_end.commands import ranet as command


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """Photos of two classes in a folder; nothing is wrong with them."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 10), ("val", 3)):
        for name in ("cat", "dog"):
            folder = tmp_path / "photos" / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                Image.fromarray(rng.integers(256, size=(20, 24, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    return tmp_path


def test_photos_in_order(here: Path) -> None:
    before = content(here)
    outcome = command("check", "data.root=photos", folder=here)
    assert outcome.status == 0, outcome.err
    assert outcome.out.splitlines()[-1] == "Nothing must be mended."
    assert ["images", "20", "6"] in [line.split() for line in outcome.out.splitlines()]
    assert content(here) == before


def test_what_is_wrong_is_listed_and_the_status_is_1(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    train, val = here / "photos" / "train", here / "photos" / "val"
    for i in range(7):
        (train / "cat" / f"{i}.png").write_bytes(b"")
    shutil.copy(train / "dog" / "0.png", val / "cat" / "größe, copied.png")
    Image.new("RGBA", (20, 20), (1, 2, 3, 4)).save(val / "dog" / os.fsdecode(b"\xe9.png"))
    (val / "dog" / "notes.txt").touch()
    outcome = command("check", "data.root=photos", "output=found.csv", folder=here)
    assert outcome.status == 1
    last = "ranet: Mend this before training: unreadable images (7), images that are in another split, too (1)."
    assert outcome.err.splitlines()[-1] == last
    lines = outcome.out.splitlines()
    assert max(map(len, lines[: next(i for i, line in enumerate(lines) if line.startswith("unreadable:"))])) <= 80
    assert ["unreadable", "7", "0"] in [line.split() for line in lines]
    assert sum(line.startswith("unreadable: train/cat/") for line in lines) == 5
    assert "unreadable: and 2 more" in lines
    assert "Written to found.csv: everything to look at (9)" in lines
    with (here / "found.csv").open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows if row["finding"] == "unreadable"] == [f"train/cat/{i}.png" for i in range(7)]
    assert {row["detail"] for row in rows if row["finding"] == "unreadable"} == {
        "cannot be read as an image (it is empty, damaged, or of no known format)"
    }
    (copy,) = [row for row in rows if row["finding"] == "in another split"]
    assert list(copy.values()) == [
        "val/cat/größe, copied.png",
        "val",
        "cat",
        "in another split",
        "as train/dog/0.png, which is of class dog",
    ]
    assert list(copy) == ["path", "split", "class", "finding", "detail"]
    (odd,) = [row for row in rows if row["finding"] == "transparent"]
    assert os.fsencode(odd["path"]) == b"val/dog/\xe9.png"


@pytest.mark.parametrize("data", ["digits", pytest.param("cifar10", marks=pytest.mark.slow)])
def test_data_in_memory(data: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    options = ["data.train_copies=1", "data.eval_copies=1"]
    if data == "cifar10":
        options = [f"data.root={request.getfixturevalue('cifar_root')}"]
    outcome = command("check", f"data={data}", *options, folder=tmp_path)
    assert outcome.status in (0, 1), outcome.err
    images = next(line.split() for line in outcome.out.splitlines() if line.split()[:1] == ["images"])
    assert images[1:] == (["1,213", "135", "449"] if data == "digits" else ["45,000", "5,000", "10,000"])


def test_no_data(tmp_path: Path) -> None:
    outcome = command("check", "data.root=nowhere", "output=found.csv", folder=tmp_path)
    assert outcome.status == 1
    assert "There is no folder" in outcome.err
    assert not list(tmp_path.iterdir())
