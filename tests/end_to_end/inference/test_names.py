"""Folders and classes called in any script, or in bytes that are not UTF-8, from training to predictions."""

import csv
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.end_to_end.commands import SHORT, SMALL, ranet

CLASSES = [b"caf\xe9", "犬".encode(), "كلب".encode(), "🐶 [red]".encode(), b"a$b$"]
NAMES = sorted(map(os.fsdecode, CLASSES))


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a name that is not UTF-8, with images in classes of many scripts, and what was trained on them."""
    folder = tmp_path_factory.mktemp("names") / os.fsdecode(b"m\xfcll")
    rng = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 2)):
        for name in NAMES:
            (folder / "photos" / split / name).mkdir(parents=True)
            for i in range(count):
                image = Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8))
                image.save(folder / "photos" / split / name / f"{name}{i}.png")
    options = ["data=imagefolder", "data.root=photos", "data.image_size=32", "data.validation_size=10", "run=rün"]
    short = [option for option in SHORT if "copies" not in option and "train_limit" not in option]
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Glyph")
        outcome = ranet("train", *short, *SMALL, *options, "data.num_workers=0", folder=folder)
    assert outcome.status == 0, outcome.err
    assert all(name in outcome.out for name in NAMES)
    return folder


def test_the_report_of_a_run_is_whole(here: Path) -> None:
    evaluation = here / "rün" / "evaluation"
    assert {"gallery.png", "anytime.png", "report.json"} <= {file.name for file in evaluation.iterdir()}
    json.loads((evaluation / "report.json").read_text(encoding="utf-8"))


def test_predictions_and_the_manifest_hold_the_names_as_they_are(here: Path) -> None:
    calibrated = ranet("calibrate", "checkpoint=rün", "budget=90%", "output=policy.json", "run=c", folder=here)
    assert calibrated.status == 0, calibrated.err
    options = ["policy=policy.json", "images=photos/val"]
    outcome = ranet("predict", "checkpoint=rün", *options, "output=rows.csv", "backend=torch", folder=here)
    assert outcome.status == 0, outcome.err
    with (here / "rows.csv").open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * len(NAMES)
    assert all(row["class_name"] == NAMES[int(row["class_index"])] for row in rows)
    assert all((here / row["image"]).is_file() for row in rows)
    exported = ranet("export", "checkpoint=rün", "policy=policy.json", "output=engine", folder=here)
    assert exported.status == 0, exported.err
    assert json.loads((here / "engine" / "manifest.json").read_text(encoding="utf-8"))["classes"] == NAMES

    # A terminal or pipe of few characters gets escapes and the bytes of names, and no traceback.
    code = "import sys; sys.modules['torch'] = None; from ranet.cli.main import main; main()"
    command = [sys.executable, "-c", code, "predict", "engine=engine", "images=photos/val", "backend=onnxruntime"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, cwd=here, capture_output=True, env=environment)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 1 + len(rows)
    for name in (b"caf\xe9", "犬".encode("ascii", "backslashreplace")):
        assert any(line.startswith(b"photos/val/" + name + b"/") for line in lines)
