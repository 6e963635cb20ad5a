"""Exits on a backbone through the commands: heads alone, everything, or one after the other."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import ranet
from ranet.models import BackboneWithExits
from tests.end_to_end.commands import SHORT, Outcome
from tests.end_to_end.commands import ranet as command

MODEL = ["model=with_exits", "model.backbone=resnet20_cifar", "model.num_exits=3", "weights=weights.safetensors"]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the weights of a classifier, and a cache of its own."""
    folder = tmp_path_factory.mktemp("heads")
    torch.manual_seed(0)
    save_file(ranet.create_network("resnet20_cifar").state_dict(), folder / "weights.safetensors")
    save_file(ranet.create_network("resnet20_cifar", num_classes=7).state_dict(), folder / "seven.safetensors")
    return folder


@pytest.fixture(autouse=True)
def _cache(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANET_CACHE", str(here / "cache"))


def train(here: Path, *options: str) -> Outcome:
    outcome = command("train", *MODEL, *SHORT, "evaluate=false", *options, folder=here)
    assert outcome.status == 0, outcome.err
    return outcome


def changed(run: Path, weights: Path) -> set[str]:
    """Return which weights of the backbone training has changed, by their names in the backbone."""
    network = ranet.load_trained(run).network
    inner = network.network if isinstance(network, ranet.InlineCollaboration) else network
    assert isinstance(inner, BackboneWithExits)
    before = ranet.load_weights(ranet.create_network("resnet20_cifar"), weights).state_dict()
    return {name for name, value in inner.backbone.state_dict().items() if not value.equal(before[name])}


def test_heads_alone_leave_the_backbone_as_it_was(here: Path) -> None:
    options = [
        "technique=heads",
        "technique.collaboration=true",
        "technique.teacher=last_exit",
        "technique.survivors=true",
    ]
    train(here, *options, "technique.feature_copies=2", "run=heads", "trainer.max_epochs=2")
    assert changed(here / "heads", here / "weights.safetensors") == set()
    files = {file: file.stat().st_mtime_ns for file in (here / "cache").glob("features_*.npy")}
    assert len(files) == 3  # two versions of the training images, and the validation images
    # Once more gives the same, without computing features again.
    train(here, *options, "technique.feature_copies=2", "run=whole", "trainer.max_epochs=2")
    assert {file: file.stat().st_mtime_ns for file in (here / "cache").glob("features_*.npy")} == files
    one, other = (ranet.load_trained(here / run).network.state_dict() for run in ("heads", "whole"))
    assert all(value.equal(other[name]) for name, value in one.items())
    told = command("evaluate", "checkpoint=heads", "run=seen", folder=here)
    assert told.status == 0, told.err
    assert (here / "seen" / "anytime.csv").exists()


@pytest.mark.slow
def test_mixed_trains_heads_and_then_everything(here: Path) -> None:
    train(here, "technique=mixed", "run=mixed", "trainer.max_epochs=2")
    assert changed(here / "mixed" / "stage1", here / "weights.safetensors") == set()
    assert "layer1.0.conv1.conv.weight" in changed(here / "mixed", here / "weights.safetensors")
    # A finished run of heads can be the first stage.
    train(here, "technique=mixed", "technique.first_stage_run=mixed/stage1", "weights=null", "run=second")
    assert "layer1.0.conv1.conv.weight" in changed(here / "second", here / "weights.safetensors")


@pytest.mark.slow
def test_everything_at_once_and_a_new_last_layer_for_other_classes(here: Path) -> None:
    train(here, "technique=joint", "run=joint")
    assert "layer1.0.conv1.conv.weight" in changed(here / "joint", here / "weights.safetensors")
    # With weights for seven classes, heads alone means the last layer, too: it starts anew.
    outcome = train(here, "technique=heads", "weights=seven.safetensors", "run=seven")
    assert "heads.0.linear starts with new weights" in outcome.out + outcome.err
    network = ranet.load_trained(here / "seven").network.state_dict()
    seven = ranet.load_weights(ranet.create_network("resnet20_cifar", num_classes=7), here / "seven.safetensors")
    for name, value in seven.state_dict().items():
        if not name.startswith("heads"):
            assert value.equal(network[f"backbone.{name}"]), name
    assert network["backbone.heads.0.linear.weight"].std() > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["technique=heads", "weights=null"], "A frozen backbone must have learned before: add weights="),
        (["technique=heads", "technique.equilibrium=all"], "Equilibrium is about gradients in the backbone"),
        (["technique=heads", "technique.teacher=other"], "use teacher=last_exit"),
        (["technique=joint", "technique.feature_copies=2"], "feature_copies is for heads on a frozen backbone"),
        (["technique=heads", "optim=modern"], "mix images, and heads on a frozen backbone see none"),
        (["technique=heads", "model=msdnet_tiny", "weights=null"], "MSDNet has none: use model=with_exits"),
        (["model.backbone=null"], "Say which network gets exits: model.backbone=NAME"),
        (["model.backbone=resnet21_cifar"], "Unknown network 'resnet21_cifar'"),
        (["model.at=[layer7]"], "layer7"),
    ],
)
def test_a_mistake_is_one_sentence_and_nothing_is_written(options: list[str], message: str, here: Path) -> None:
    model = [] if any(option.startswith("model=") for option in options) else MODEL
    given = [each for each in model if each.partition("=")[0] not in {option.partition("=")[0] for option in options}]
    outcome = command("train", *given, *SHORT, *options, "run=mistake", folder=here)
    assert outcome.status == 1
    (line,) = outcome.err.strip().splitlines()
    assert message in line
    assert not (here / "mistake" / "config.yaml").exists()
