"""From a trained network and its policy to the drift of a folder of images."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ranet.calibration import ExitPolicy, ExitScores, load_policy
from ranet.data import ImageData
from tests.end_to_end.commands import SMALL, content, train
from tests.end_to_end.commands import ranet as command


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained network (run), a policy for it (policy.json), its test images as files (same), and dark ones (dark)."""
    here = tmp_path_factory.mktemp("drift")
    train(*SMALL, "evaluate=false", "run=run", folder=here)
    options = ["checkpoint=run", "budget=0.7", "unit=fraction", "output=policy.json", "run=calibration"]
    outcome = command("calibrate", *options, folder=here)
    assert outcome.status == 0, outcome.err
    pixels = ImageData("digits", train_copies=1, eval_copies=1).test_images(range(150)).permute(0, 2, 3, 1).numpy()
    for name, factor in (("same", 1.0), ("dark", 0.3)):
        (here / name / "inside").mkdir(parents=True)
        for i, image in enumerate(pixels):
            Image.fromarray((factor * image).astype(np.uint8)).save(here / name / "inside" / f"{i:03}.png")
    return here


def evaluate(folder: Path, *arguments: str) -> str:
    outcome = command("evaluate", "checkpoint=run", "policy=policy.json", *arguments, folder=folder)
    assert outcome.status == 0, outcome.err
    return outcome.out


@pytest.mark.slow
def test_images_in_files_are_scored_as_the_test_split_is(folder: Path) -> None:
    assert "Seen minus promised" in evaluate(folder, "run=labelled")
    out = evaluate(folder, "images=same", "run=unlabelled")
    assert sorted(content(folder / "unlabelled")) == [
        *("config.yaml", "drift.csv", "drift.json", "environment.json", "scores_images.npz"),
    ]
    labelled = ExitScores.load(folder / "labelled" / "scores_test.npz")
    unlabelled = ExitScores.load(folder / "unlabelled" / "scores_images.npz")
    np.testing.assert_allclose(unlabelled.confidence, labelled.confidence[:, :150], atol=1e-6)
    assert not unlabelled.has("labels")
    found = json.loads((folder / "unlabelled" / "drift.json").read_text())
    assert found["images"] == 150
    assert found["verdict"] in out
    exits = load_policy(folder / "policy.json").exits(unlabelled)
    assert found["exit_shares"]["seen"] == (np.bincount(exits, minlength=2) / 150).tolist()
    assert found["cost"]["seen"] == pytest.approx(np.mean([found["cost_per_exit"][k] for k in exits]))


def test_images_that_look_different_have_drifted(folder: Path) -> None:
    out = evaluate(folder, "images=dark", "run=dark_report")
    assert "Drift: " in out
    assert json.loads((folder / "dark_report" / "drift.json").read_text())["drifted"]


def test_what_cannot_be_read_is_left_out_counted_and_named(folder: Path) -> None:
    shutil.copytree(folder / "same", folder / "mixed")
    (folder / "mixed" / "inside" / "005.png").write_bytes(b"half a download")
    (folder / "mixed" / "inside" / "007.png").write_bytes((folder / "same" / "inside" / "007.png").read_bytes()[:-200])
    (folder / "mixed" / "notes.txt").touch()
    (folder / "mixed" / "inside" / "._001.png").touch()
    outcome = command(
        "evaluate", "checkpoint=run", "policy=policy.json", "images=mixed", "run=mixed_run", folder=folder
    )
    assert outcome.status == 0, outcome.err
    assert outcome.err == "ranet: Skipped in mixed: 1 .txt, 1 hidden.\n"
    assert "mixed/inside/005.png cannot be read as an image (it is empty, damaged, or of no known" in outcome.out
    assert "mixed/inside/007.png cannot be read as an image (image file is truncated" in outcome.out
    assert "2 of 150 images cannot be read and are left out." in outcome.out
    assert json.loads((folder / "mixed_run" / "drift.json").read_text())["images"] == 148


def test_mistakes_are_said_and_nothing_is_written(folder: Path) -> None:
    ExitPolicy((0.5,), metadata={"cost_per_exit": [1.0, 2.0]}).save(folder / "by_hand.json")
    policy = load_policy(folder / "policy.json")
    metadata = {**policy.metadata, "network": {"fingerprint": "0" * 16}}
    ExitPolicy(policy.thresholds, policy.score, policy.temperatures, metadata).save(folder / "other.json")
    (folder / "empty").mkdir()
    (folder / "broken").mkdir()
    for name in ("a.png", "b.jpg"):
        (folder / "broken" / name).write_text("no image")
    for arguments, message in (
        (["images=same"], "needs policy=FILE"),
        (["images=same", "policy=by_hand.json"], "does not store the distribution of its calibration scores"),
        (["images=same", "policy=other.json"], "solved for another network"),
        (["policy=other.json"], "solved for another network"),
        (["images=nowhere", "policy=policy.json"], "There is no folder and no image"),
        (["images=empty", "policy=policy.json"], "holds no image"),
        (["images=broken", "policy=policy.json"], "None of the 2 images in broken can be read: broken/a.png cannot be"),
    ):
        outcome = command("evaluate", "checkpoint=run", *arguments, "run=mistake", folder=folder)
        assert outcome.status == 1
        assert message in outcome.err
        assert len(outcome.err.strip().splitlines()) == 1
        assert not content(folder / "mistake")
