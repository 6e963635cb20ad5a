"""A trained network keeps its classes and held-out images, whatever becomes of the folder that it was trained on."""

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ranet.calibration import ExitScores
from tests.end_to_end.commands import SHORT, SMALL, Outcome
from tests.end_to_end.commands import ranet as command

DATA = ["data=imagefolder", "data.root=photos", "data.image_size=16", "data.batch_size=8", "data.num_workers=0"]
TRAIN = [
    *[option for option in SHORT if option.startswith(("trainer", "logger"))],
    *DATA,
    *SMALL,
    "optim=cosine",
    "optim.schedule.warmup_epochs=0",
    "evaluate=false",
]
#: The colour of the images of each class; what the network answers does not matter here.
CLASSES = {"cat": (200, 40, 40), "dog": (40, 200, 40), "eel": (40, 40, 200)}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos of three classes, a network trained on them, a policy, and what it answers."""
    here = tmp_path_factory.mktemp("changed")
    random = np.random.default_rng(0)
    for split, count in (("train", 10), ("val", 4)):
        for name, colour in CLASSES.items():
            (here / "photos" / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = np.clip(random.integers(-40, 40, (16, 16, 3)) + colour, 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(here / "photos" / split / name / f"{i}.png")
    shutil.copytree(here / "photos" / "val", here / "new")
    assert command("train", *TRAIN, "run=run", folder=here).status == 0
    assert command("calibrate", "checkpoint=run", "budget=80%", "run=first", folder=here).status == 0
    return here


@pytest.fixture
def here(trained: Path, tmp_path: Path) -> Path:
    """A copy whose images may be changed; the run's own still lie where it was trained."""
    copy = tmp_path / "copy"
    shutil.copytree(trained, copy)
    return copy


def rename_class(folder: Path) -> None:
    for split in ("train", "val"):
        (folder / "photos" / split / "cat").rename(folder / "photos" / split / "zebra")


def predict(folder: Path, run: str = "run") -> list[dict[str, str]]:
    options = ["backend=torch", "device=cpu", "policy=first/policy.json"]
    outcome = command("predict", f"checkpoint={run}", "images=new", *options, folder=folder)
    assert outcome.status == 0, outcome.err
    return list(csv.DictReader(io.StringIO(outcome.out)))


def refused(outcome: Outcome, sentence: str) -> None:
    assert outcome.status == 1
    assert sentence in outcome.err
    assert "Traceback" not in outcome.err


def test_names_of_classes_are_those_of_the_training(here: Path) -> None:
    before = predict(here)
    assert {name for row in before for name in row.values()} & {*CLASSES}
    rename_class(here)
    assert predict(here) == before
    assert command("export", "checkpoint=run", "policy=first/policy.json", "output=engine", folder=here).status == 0
    assert json.loads((here / "engine" / "manifest.json").read_text())["classes"] == [*CLASSES]
    shutil.rmtree(here / "photos")
    assert predict(here) == before, "no data are needed"


@pytest.mark.parametrize("options", [["evaluate"], ["calibrate", "budget=80%"]])
def test_renamed_classes_are_refused(here: Path, options: list[str]) -> None:
    rename_class(here)
    verb, *others = options
    outcome = command(verb, "checkpoint=run", *others, "data.root=photos", "run=results", folder=here)
    refused(outcome, "has other classes than the network was trained on (missing: cat; new: zebra)")
    assert not (here / "results" / "policy.json").exists()


def test_policies_are_solved_on_images_that_were_held_out(here: Path) -> None:
    """A new image once moved the draw, so that most of the images used for calibration were images of the training."""
    first = ExitScores.load(here / "first" / "scores_validation.npz")
    shutil.copy(here / "new" / "cat" / "0.png", here / "photos" / "train" / "cat" / "00.png")
    outcome = command("calibrate", "checkpoint=run", "budget=80%", "data.root=photos", "run=second", folder=here)
    assert outcome.status == 0, outcome.err
    second = ExitScores.load(here / "second" / "scores_validation.npz")
    np.testing.assert_array_equal(second.confidence, first.confidence)
    policies = [json.loads((here / run / "policy.json").read_text()) for run in ("first", "second")]
    assert policies[0]["metadata"]["data"] == policies[1]["metadata"]["data"]
    assert policies[0]["metadata"]["data"]["classes"] == [*CLASSES]


@pytest.mark.slow
def test_a_run_works_wherever_it_is_moved(trained: Path, here: Path, tmp_path: Path) -> None:
    def evaluated(folder: Path, *options: str) -> np.ndarray:
        outcome = command("evaluate", f"checkpoint={here / 'run'}", f"run={tmp_path / 'run'}", *options, folder=folder)
        assert outcome.status == 0, outcome.err
        return ExitScores.load(tmp_path / "run" / "scores_test.npz").confidence

    (tmp_path / "empty").mkdir()
    expected = evaluated(tmp_path / "empty")  # the images lie where they lay
    photos = trained / "photos"
    photos.rename(trained / "hidden")
    try:
        np.testing.assert_array_equal(evaluated(here), expected)  # the whole project moved
        np.testing.assert_array_equal(evaluated(tmp_path / "empty", f"data.root={here / 'photos'}"), expected)
        outcome = command("evaluate", f"checkpoint={here / 'run'}", folder=tmp_path / "empty")
        refused(outcome, "There is no folder")
    finally:
        (trained / "hidden").rename(photos)


@pytest.mark.parametrize("change", ["another image", "an image less", "another class name"])
def test_a_run_is_not_resumed_on_other_images(here: Path, change: str) -> None:
    checkpoint = (here / "run" / "checkpoints" / "last.ckpt").read_bytes()
    if change == "another class name":
        rename_class(here)
    elif change == "another image":
        shutil.copy(here / "new" / "cat" / "0.png", here / "photos" / "train" / "cat" / "99.png")
    else:
        (here / "photos" / "train" / "cat" / "0.png").unlink()
    outcome = command("train", *TRAIN, "run=run", "resume=true", folder=here)
    refused(outcome, "missing: cat; new: zebra" if change == "another class name" else "images changed since")
    assert (here / "run" / "checkpoints" / "last.ckpt").read_bytes() == checkpoint


def test_a_teacher_of_other_classes_is_refused(here: Path) -> None:
    rename_class(here)
    outcome = command("train", *TRAIN, "run=student", "technique=ofa", "technique.teacher=run", folder=here)
    refused(outcome, "The teacher run was trained on other classes")


def test_training_says_how_many_images_there_are(here: Path) -> None:
    shutil.rmtree(here / "photos" / "val" / "eel")
    shutil.copytree(here / "photos" / "val" / "cat", here / "photos" / "val" / "eel")
    outcome = command("train", *TRAIN, "run=another", "data.validation_size=2", folder=here)
    assert outcome.status == 0, outcome.err
    lines = [line.split() for line in outcome.out.splitlines()]
    assert ["class", "train", "validation", "test"] in lines
    assert ["all", "28", "2", "12"] in lines
    assert sorted(line[1] for line in lines if line and line[0] in CLASSES and len(line) == 4) == ["10", "9", "9"]
    assert "has no validation images" in outcome.out


def test_images_that_cannot_be_read_are_named_before_anything_is_written(here: Path) -> None:
    (here / "photos" / "train" / "dog" / "3.png").write_bytes(b"cut")
    outcome = command("train", *TRAIN, "run=bad", folder=here)
    refused(outcome, f"1 of 30 images in {Path('photos') / 'train'} cannot be used:\n  dog/3.png cannot be read as an")
    assert not [path for path in (here / "bad").rglob("*") if path.is_file()]
    outcome = command("train", *TRAIN, "data.on_bad=skip", "run=good", folder=here)
    assert outcome.status == 0, outcome.err
    assert "cannot be used and are left out, such as dog/3.png, which" in outcome.err
    # Later commands do as the training did, or as they are told.
    calibrate = ["calibrate", "checkpoint=good", "budget=80%"]
    outcome = command(*calibrate, "run=second", folder=here)
    assert outcome.status == 0, outcome.err
    refused(command(*calibrate, "data.on_bad=stop", "run=third", folder=here), "data.on_bad=skip")
