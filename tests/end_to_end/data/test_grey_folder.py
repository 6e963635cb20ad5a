"""A folder of grey pictures of 28 x 40 pixels: trained, evaluated, calibrated, exported and predicted on."""

import csv
import io
import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ranet.calibration import ExitScores, load_policy
from ranet.data import ImageData
from ranet.training import load_trained
from tests.end_to_end.commands import ranet as command

NETWORK = [
    *("model=msdnet", "model.blocks=3", "model.base=1", "model.step=1", "model.channels=4", "model.growth=4"),
    *("model.growth_factors=[1,2]", "model.bottleneck_factors=[1,2]"),
]
DATA = ["data=imagefolder", "data.root=photos", "data.num_workers=0"]
GREY = [*DATA, "data.image_size=[28,40]", "data.channels=1", "data.mean=[0.4]", "data.std=[0.2]"]
TRAIN = ["trainer.max_epochs=1", "trainer.accelerator=cpu", "trainer.precision=32-true", "logger.wandb.mode=disabled"]


def stripes(rng: np.random.Generator, lying: bool) -> Image.Image:
    """Bright stripes in noise."""
    pixels = rng.integers(0, 130, (28, 40), dtype=np.uint8)
    place = np.arange(28)[:, None] if lying else np.arange(40)
    pixels[np.broadcast_to(place % 7 < 3, pixels.shape)] += 120
    return Image.fromarray(pixels)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, rng = tmp_path_factory.mktemp("grey"), np.random.default_rng(0)
    for split, count in (("train", 80), ("val", 20)):
        for name in ("lying", "standing"):
            (folder / "photos" / split / name).mkdir(parents=True)
            for i in range(count):
                stripes(rng, name == "lying").save(folder / "photos" / split / name / f"{i:02}.png")
    batches = ["data.batch_size=4", "data.validation_size=40", "optim=cosine", "optim.schedule.warmup_epochs=0"]
    done = command("train", *GREY, *NETWORK, *TRAIN, *batches, "run=run", folder=folder)
    assert done.status == 0, done.err
    done = command("calibrate", "checkpoint=run", "budget=70%", "output=policy.json", "run=calibration", folder=folder)
    assert done.status == 0, done.err
    return folder


@pytest.fixture(scope="module")
def expected(here: Path) -> ExitScores:
    """Of the test images, by arithmetic of our own."""
    paths = sorted((here / "photos" / "val").rglob("*.png"))
    network = load_trained(here / "run").network
    images = []
    for path in paths:
        picture = Image.open(path)
        assert picture.mode == "L"
        cropped = np.asarray(picture.resize((46, 32), Image.Resampling.BILINEAR))[2:30, 3:43]
        images.append((cropped[None] / 255 - 0.4) / 0.2)
    with torch.no_grad():
        logits = network(torch.from_numpy(np.stack(images)).float())
    labels = torch.tensor([path.parent.name == "standing" for path in paths]).long()
    return ExitScores.from_logits(logits, labels)


def test_the_network_reads_such_images(here: Path) -> None:
    network = load_trained(here / "run").network
    assert network.image_shape == (1, 28, 40)
    assert json.loads((here / "run" / "evaluation" / "costs.json").read_text())["image_size"] == [28, 40]
    data = ImageData("imagefolder", here / "photos", image_size=(28, 40), channels=1, num_workers=0, validation_size=40)
    assert data.record().digests == load_trained(here / "run").recipe["record"]["digests"]


@pytest.mark.slow
def test_evaluation_is_that_of_the_checkpoint(here: Path, expected: ExitScores) -> None:
    for options, where in (([], here / "run" / "evaluation"), (["run=again"], here / "again")):
        if options:
            assert command("evaluate", "checkpoint=run", *options, folder=here).status == 0
        found = ExitScores.load(where / "scores_test.npz")
        np.testing.assert_allclose(found.confidence, expected.confidence, atol=1e-5)
        assert found.labels.tolist() == expected.labels.tolist()
    assert found.correct.mean() > 0.6, "it has learned"


def predicted(here: Path, *options: str) -> list[dict[str, str]]:
    outcome = command("predict", *options, "images=photos/val", folder=here)
    assert outcome.status == 0, outcome.err
    return list(csv.DictReader(io.StringIO(outcome.out)))


@pytest.mark.parametrize("source", ["checkpoint", pytest.param("export", marks=pytest.mark.slow)])
def test_files_are_answered_as_the_replay_says(here: Path, expected: ExitScores, source: str) -> None:
    policy = load_policy(here / "policy.json")
    if source == "checkpoint":
        rows = predicted(here, "checkpoint=run", "policy=policy.json", "backend=torch", "device=cpu")
    else:
        if not (find_spec("onnxruntime") and find_spec("onnx")):
            pytest.skip("needs the extra onnx")
        done = command("export", "checkpoint=run", "policy=policy.json", "output=engine", folder=here)
        assert done.status == 0, done.err
        how = json.loads((here / "engine" / "manifest.json").read_text())["preprocessing"]
        assert {name: how[name] for name in ("mode", "image_size", "resize", "mean", "std")} == {
            **{"mode": "L", "image_size": [28, 40], "resize": [32, 46], "mean": [0.4], "std": [0.2]}
        }
        rows = predicted(here, "engine=engine", "backend=onnxruntime")
    exits = policy.exits(expected)
    at = (exits, np.arange(len(exits)))
    assert [int(row["exit"]) - 1 for row in rows] == exits.tolist()
    assert [int(row["class_index"]) for row in rows] == expected.prediction[at].tolist()
    assert [float(row["probability"]) for row in rows] == pytest.approx(expected.confidence[at].tolist(), abs=1e-4)


def test_colour_and_other_sizes_are_answered_too(here: Path) -> None:
    (here / "others").mkdir()
    picture = Image.open(here / "photos" / "val" / "lying" / "00.png")
    picture.resize((80, 56)).convert("RGB").save(here / "others" / "a.png")
    Image.new("RGBA", (30, 90), (200, 0, 0, 100)).save(here / "others" / "b.png")
    outcome = command("predict", "checkpoint=run", "policy=policy.json", "backend=torch", "images=others", folder=here)
    assert outcome.status == 0, outcome.err
    assert outcome.out.count("others") == 2


@pytest.mark.parametrize(
    ("verb", "options", "sentence"),
    [
        ("train", [*GREY, "data.channels=2"], "data.channels=2 must be 1 (grey) or 3 (RGB)."),
        ("train", [*GREY, "data.image_size=[28]"], "data.image_size=[28] must be an integer of at least 8, or two of"),
        (
            "train",
            [*GREY, "data.mean=[0.4,0.5,0.6]"],
            "data.mean=[0.4, 0.5, 0.6] must be a list of finite numbers",
        ),
        (
            "train",
            [*GREY, "model.in_channels=3"],
            "model.in_channels=3 must be data.channels=1; remove it to use",
        ),
        ("evaluate", ["checkpoint=run", *DATA, "data.image_size=[28,40]"], "reads images with 1 channel and those of"),
        (
            "predict",
            ["checkpoint=run", "policy=policy.json", "images=photos", "data=imagefolder"],
            "The network reads images with 1 channel and those of imagefolder have 3; use data.channels=1, or the data",
        ),
    ],
)
def test_mistakes_are_one_sentence(here: Path, verb: str, options: list[str], sentence: str) -> None:
    extra = [*NETWORK, *TRAIN, "run=wrong"] if verb == "train" else []
    outcome = command(verb, *options, *extra, folder=here)
    assert outcome.status == 1
    assert sentence in outcome.err
    assert "Traceback" not in outcome.err
    assert not list((here / "wrong").rglob("*.yaml"))
