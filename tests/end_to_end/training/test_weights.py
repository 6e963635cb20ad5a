"""Training that starts from weights, and commands that get a network's weights in place of a checkpoint."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from ranet import EarlyExitEngine, ExitPolicy, load_trained
from tests.end_to_end.commands import SHORT, SMALL, ranet, train

#: Nothing is learned, so that the weights at the end are those at the start.
FROZEN = ["optim.optimizer.lr=0", "evaluate=false"]


def parameters(run: Path) -> dict[str, Tensor]:
    return dict(load_trained(run).network.named_parameters())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run, its weights in a file, a policy, and images."""
    folder = tmp_path_factory.mktemp("weights")
    train(*SMALL, "evaluate=false", "run=before", folder=folder)
    torch.save(load_trained(folder / "before").network.state_dict(), folder / "weights.pth")
    ExitPolicy((0.3,)).save(folder / "policy.json")
    (folder / "images").mkdir()
    for number, pixels in enumerate(np.random.default_rng(0).integers(256, size=(3, 32, 32, 3), dtype=np.uint8)):
        Image.fromarray(pixels).save(folder / "images" / f"{number}.png")
    return folder


@pytest.mark.parametrize("source", ["before", "weights.pth"])
def test_training_starts_from_weights(source: str, folder: Path) -> None:
    run = folder / f"from_{source}"
    train(*SMALL, *FROZEN, f"weights={source}", f"run={run}", "seed=1", folder=folder)
    before, after = parameters(folder / "before"), parameters(run)
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_a_run_continues_without_the_weights_that_it_started_from(folder: Path) -> None:
    (folder / "gone.pth").write_bytes((folder / "weights.pth").read_bytes())
    options = [*SMALL, *FROZEN, "weights=gone.pth", "run=continued"]
    train(*options, folder=folder)
    (folder / "gone.pth").unlink()
    train(*options, "resume=true", folder=folder)
    outcome = ranet("train", *SHORT, *options, "weights=weights.pth", "resume=true", folder=folder)
    assert "was trained with weights=gone.pth, not weights.pth" in outcome.err


def test_another_number_of_classes_gets_new_linear_layers(folder: Path) -> None:
    outcome = train(*SMALL, *FROZEN, "model.num_classes=12", "weights=before", "run=twelve", folder=folder)
    assert "are for 10 classes and the network has 12: heads.0.linear, heads.1.linear starts" in outcome.err
    before, after = parameters(folder / "before"), parameters(folder / "twelve")
    assert {name for name in before if not torch.equal(after[name], before[name])} == {
        f"heads.{k}.linear.{leaf}" for k in (0, 1) for leaf in ("weight", "bias")
    }


@pytest.mark.slow
def test_the_first_of_two_stages_starts_from_weights(folder: Path) -> None:
    technique = ["technique=imta_two_stage", "trainer.max_epochs=2"]
    train(*SMALL, *FROZEN, *technique, "weights=before", "run=two", folder=folder)
    before, first, second = (parameters(folder / run) for run in ("before", "two/stage1", "two"))
    assert all(torch.equal(first[name], value) for name, value in before.items())
    kept = [name for name in before if ".linear." not in name]
    assert all(torch.equal(second[f"network.{name}"], before[name]) for name in kept)


@pytest.mark.slow
def test_weights_take_the_place_of_a_checkpoint(folder: Path) -> None:
    given = ["weights=weights.pth", *SMALL, "data=digits", "data.eval_copies=1", "data.train_copies=1"]
    for verb, *options in (
        ("evaluate", "run=evaluated"),
        ("calibrate", "budget=90%", "run=calibrated"),
        ("export", "data.mean=[0.1,0.2,0.3]", "policy=policy.json", "output=engine"),
        ("predict", "policy=policy.json", "images=images", "output=answers.csv", "backend=torch"),
        (
            "bench",
            "policy=policy.json",
            "backends=torch",
            "seconds=1",
            "rounds=1",
            "images_limit=20",
            "batch_sizes=4",
            "run=bench",
        ),
    ):
        outcome = ranet(verb, *given, *options, folder=folder)
        assert outcome.status == 0, (verb, outcome.err)
    train_options = ["data.eval_copies=1", "data.train_copies=1"]
    assert ranet("evaluate", "checkpoint=before", "data=digits", *train_options, "run=again", folder=folder).status == 0
    rows = [list(csv.DictReader((folder / run / "anytime.csv").open())) for run in ("evaluated", "again")]
    assert rows[0] == rows[1]
    assert len((folder / "answers.csv").read_text().splitlines()) == 4
    assert EarlyExitEngine(folder / "engine").preprocessing.mean == (0.1, 0.2, 0.3)
