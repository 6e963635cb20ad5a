"""A predict that was killed goes on where it was, and its rows are those of one that was not."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from ranet.calibration import ExitPolicy, ExitScores
from ranet.cli.inputs.network_alone import load_network_alone
from ranet.inference.images.files import ImageFiles
from ranet.inference.predictions.file import PredictionTable
from ranet.models import create_network
from tests.end_to_end.commands import Outcome, content
from tests.end_to_end.commands import ranet as command

IMAGES = 60
UNREADABLE = (3, 20, 37, 59)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network, a policy by which images leave at all of its exits, and images, four of which cannot be read."""
    tmp_path = tmp_path_factory.mktemp("resume")
    torch.manual_seed(0)
    network = create_network("msdnet_tiny", num_classes=10).eval()
    recipe = {
        "network": {"name": "msdnet_tiny", "options": {"num_classes": 10, "image_size": 32}},
        "data": {"name": "digits", "batch_size": 4},
    }
    weights = {f"network.{name}": value for name, value in network.state_dict().items()}
    torch.save({"ranet": recipe, "state_dict": weights, "epoch": 0}, tmp_path / "last.ckpt")
    pixels = np.random.default_rng(0).integers(0, 256, (IMAGES, 32, 32, 3), dtype=np.uint8)
    nothing = {"root": None, "eval_batch_size": None}
    config = OmegaConf.create({"checkpoint": str(tmp_path / "last.ckpt"), "model": {"name": None}, "data": nothing})
    preprocessing = load_network_alone(config).preprocessing
    seen = torch.from_numpy(np.stack([preprocessing(Image.fromarray(image)) for image in pixels]))
    with torch.no_grad():
        scores = ExitScores.from_logits(network(seen), torch.zeros(IMAGES, dtype=torch.int64))
    thresholds = [np.quantile(confidence, 0.6) for confidence in scores.confidence[:-1]]
    costs = {"unit": "macs", "cost_per_exit": [1.0, 2.0, 3.0, 4.0, 5.0]}
    ExitPolicy(tuple(thresholds), metadata=costs).save(tmp_path / "p.json")
    ExitPolicy((0.1,) * 4, metadata=costs).save(tmp_path / "other.json")
    (tmp_path / "images").mkdir()
    for i, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / "images" / f"{i:02}.png")
        if i in UNREADABLE:
            (tmp_path / "images" / f"{i:02}.png").write_bytes(b"no image")
    return tmp_path


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "folder")  # with the times of the files


#: Marks after 16, 32 and 60 images.
GIVEN = ["checkpoint=last.ckpt", "policy=p.json", "images=images", "backend=torch", "device=cpu", "batch_size=4"]


def predict(*options: str, folder: Path) -> Outcome:
    return command("predict", *GIVEN, *options, folder=folder)


@pytest.fixture(scope="module")
def whole(made: Path) -> dict[str, tuple[bytes, str]]:
    """The file and the notices of a run that is not interrupted, by the suffix of the file."""
    found = {}
    for suffix in ("csv", "jsonl"):
        outcome = predict(f"output=whole/a.{suffix}", folder=made)
        assert outcome.status == 1
        assert "4 of 60 images could not be answered" in outcome.err
        found[suffix] = (made / "whole" / f"a.{suffix}").read_bytes(), outcome.err
    exits = {line.split(b",")[-2] for line in found["csv"][0].splitlines()[1:]}
    assert exits == {b"1", b"2", b"3", b"4", b"5"}
    return found


def stopped_after(rows: int, by: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this signal come when so many rows have been written; what would end this process raises SystemExit."""
    write, count = PredictionTable.write, 0

    def stopping(self: PredictionTable, names: Any, answers: Any) -> None:
        nonlocal count
        write(self, names, answers)
        count += len(answers)
        if count >= rows:
            monkeypatch.setattr(PredictionTable, "write", write)
            signal.raise_signal(by)

    signal.signal(by, signal.default_int_handler)
    monkeypatch.setattr(PredictionTable, "write", stopping)
    monkeypatch.setattr("os._exit", sys.exit)


def images_read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The indices of the images that are read from now on."""
    read, indices = ImageFiles.read, []

    def reading(self: ImageFiles, index: int, preprocessing: Any) -> Any:
        indices.append(index)
        return read(self, index, preprocessing)

    monkeypatch.setattr(ImageFiles, "read", reading)
    return indices


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_a_killed_predict_goes_on_where_it_was(
    suffix: str, folder: Path, whole: dict[str, tuple[bytes, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"a.{suffix}"
    slow = """
import time
from ranet.cli.main import main
from ranet.cli.inputs.network_alone import load_network_alone
from ranet.inference.images.files import ImageFiles
read = ImageFiles.read
ImageFiles.read = lambda self, i, preprocessing: (i < 40 or time.sleep(600), read(self, i, preprocessing))[1]
main()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", slow, "predict", *GIVEN, f"output={name}"],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
    )
    partial, progress = folder / f"{name}.partial", folder / f"{name}.progress"
    while not (progress.exists() and progress.read_bytes().count(b"\n") >= 3):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (folder / name).exists()
    with partial.open("ab") as file:  # killed while it wrote a line
        file.write(b"images/3")
    with progress.open("ab") as file:
        file.write(b'{"done": 6')

    refused = predict(f"output={name}", folder=folder)
    assert refused.status == 1
    assert refused.err == (
        f"ranet: {name}.partial holds the answers to the first 32 images of a run that did not end: add resume=true to "
        "go on after them, or remove the file to start again.\n"
    )
    indices = images_read(monkeypatch)
    outcome = predict(f"output={name}", "resume=true", folder=folder)
    monkeypatch.undo()
    assert sorted(indices) == list(range(32, IMAGES))
    assert outcome.out.startswith("56 images answered, 30 of them before, the others in ")
    assert ((folder / name).read_bytes(), outcome.err) == whole[suffix]
    assert outcome.status == 1
    assert not partial.exists()
    assert not progress.exists()


@pytest.mark.parametrize(("by", "status", "suffix"), [(signal.SIGINT, 130, "csv"), (signal.SIGTERM, 143, "jsonl")])
def test_who_stops_it_is_told_how_to_go_on(
    by: signal.Signals,
    status: int,
    suffix: str,
    folder: Path,
    whole: dict[str, tuple[bytes, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = folder / f"a.{suffix}"
    path.write_text("earlier")
    stopped_after(20, by, monkeypatch)
    outcome = predict(f"output={path.name}", folder=folder)
    notice = f"ranet: The first 16 images are kept in {path.name}.partial; add resume=true to go on after them.\n"
    assert (outcome.status, outcome.err) == (status, f"{notice}ranet: Stopped.\n")
    assert path.read_text() == "earlier"
    stopped_after(20, by, monkeypatch)
    outcome = predict(f"output={path.name}", "resume=true", folder=folder)
    assert outcome.err == notice.replace("16", "32") + "ranet: Stopped.\n"
    outcome = predict(f"output={path.name}", "resume=true", folder=folder)
    assert (path.read_bytes(), outcome.err) == whole[suffix]


def touched(folder: Path) -> None:
    path = folder / "images" / "50.png"
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))


def one_more(folder: Path) -> None:
    (folder / "images" / "99.png").write_bytes((folder / "images" / "00.png").read_bytes())


def other_weights(folder: Path) -> None:
    checkpoint = torch.load(folder / "last.ckpt", weights_only=True)
    next(iter(checkpoint["state_dict"].values())).add_(1)
    torch.save(checkpoint, folder / "last.ckpt")


OTHERS: dict[str, tuple[str | Callable[[Path], None], str]] = {
    "policy": ("policy=other.json", "another policy"),
    "batch_size": ("batch_size=5", "batch_size=4 and not batch_size=5"),
    "max_exit": ("max_exit=1", "max_exit=None and not max_exit=1"),
    "precision": ("precision=bfloat16", "precision=float32 and not precision=bfloat16"),
    "order": ("images=[images/01.png,images/00.png]", "other images, or some that were changed since"),
    "touched": (touched, "other images, or some that were changed since"),
    "one more": (one_more, "other images, or some that were changed since"),
    "weights": (other_weights, "another network"),
}


@pytest.fixture(scope="module")
def stopped(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was stopped after its first mark."""
    folder = shutil.copytree(made, tmp_path_factory.mktemp("stopped") / "folder")
    with pytest.MonkeyPatch.context() as patch:
        stopped_after(20, signal.SIGINT, patch)
        predict("output=a.csv", folder=folder)
    return folder


@pytest.mark.parametrize(
    "case",
    # Each takes a second: every other one is tried with all tests.
    [pytest.param(case, marks=[pytest.mark.slow] if i % 2 else []) for i, case in enumerate(OTHERS)],
)
def test_it_goes_on_only_with_the_same(case: str, stopped: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(stopped, tmp_path / "folder")
    change, difference = OTHERS[case]
    if callable(change):
        change(folder)
    before = content(folder)
    outcome = predict("output=a.csv", "resume=true", *([change] if isinstance(change, str) else []), folder=folder)
    assert outcome.status == 1
    assert outcome.err == (
        f"ranet: resume=true cannot go on with a.csv.partial, which was written with {difference}: use the same again, "
        "or remove the file to start again.\n"
    )
    assert content(folder) == before


def test_resume_without_an_unfinished_file_begins(folder: Path, whole: dict[str, tuple[bytes, str]]) -> None:
    outcome = predict("output=a.csv", "resume=true", folder=folder)
    assert ((folder / "a.csv").read_bytes(), outcome.err) == whole["csv"]


def test_rows_on_standard_output_cannot_be_gone_on_with(folder: Path) -> None:
    outcome = predict("resume=true", folder=folder)
    said = "ranet: resume=true continues a file; name it with output=FILE.csv or output=FILE.jsonl.\n"
    assert (outcome.status, outcome.out, outcome.err) == (1, "", said)
