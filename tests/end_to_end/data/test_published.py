"""Published checkpoints through the commands, and whose figures get the published points."""

import csv
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from ranet import create_network, list_networks, load_public_checkpoint
from ranet.cli.main import main
from ranet.data import ImageData
from ranet.models import is_published
from ranet.models.registry import option_defaults
from tests.end_to_end.commands import ranet


@pytest.mark.slow
def test_a_published_checkpoint_is_evaluated_with_its_model_and_data(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with safe_open(shared / "fixtures" / "msdnet_lin_grow_small.safetensors", "pt") as file:
        names = [name for name in file.keys() if name.startswith("weights.")]  # noqa: SIM118 (not a dictionary)
        weights = {name.removeprefix("weights."): file.get_tensor(name) for name in names}
    checkpoint = tmp_path / "model.pth.tar"
    torch.save({"state_dict": {f"module.{name}": value for name, value in weights.items()}}, checkpoint)
    options = ["model=msdnet", "model.channels=8", "model.growth=4", "data=digits", "data.eval_copies=1"]
    run = tmp_path / "run"
    monkeypatch.setattr(sys, "argv", ["ranet", "evaluate", f"checkpoint={checkpoint}", *options, f"run={run}"])
    main()

    network = load_public_checkpoint(create_network("msdnet", channels=8, growth=4), weights).eval()
    images, labels = next(iter(ImageData("digits", eval_batch_size=1000, eval_copies=1).test_dataloader()))
    with torch.no_grad():
        accuracy = (network(images).argmax(-1) == labels).double().mean(1)
    rows = list(csv.DictReader((run / "anytime.csv").read_text().splitlines()))
    assert [float(row["top1_percent"]) for row in rows] == pytest.approx((100 * accuracy).tolist(), abs=0.3)


@pytest.mark.slow
def test_a_public_resnet_has_its_accuracy_with_the_normalisation_that_it_was_trained_with(
    shared: Path, cifar_root: Path, tmp_path: Path
) -> None:
    weights = shared / "weights" / "resnet20_cifar10.safetensors"
    data = ["data=cifar10", f"data.root={cifar_root}", "data.mean=[.485,.456,.406]", "data.std=[.229,.224,.225]"]
    outcome = ranet("evaluate", f"weights={weights}", "model=resnet20_cifar", *data, "run=run", folder=tmp_path)
    assert outcome.status == 0, outcome.err
    (row,) = csv.DictReader((tmp_path / "run" / "anytime.csv").open())
    assert float(row["top1_percent"]) == pytest.approx(91.73, abs=0.011)


@pytest.mark.parametrize("name", list_networks())
def test_published_points_belong_to_the_papers_networks_as_a_checkpoint_describes_them(name: str) -> None:
    # In a configuration tuples have become lists.
    options = {key: list(v) if isinstance(v, tuple) else v for key, v in option_defaults(name).items()}
    assert is_published(name, {**options, "num_classes": 7}) == (not name.endswith(("_small", "_tiny")))
    assert not is_published(name, {**options, "channels": 30})
    assert not is_published(name, {**options, "image_size": 48})
