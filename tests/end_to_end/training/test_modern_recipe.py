"""The modern recipe from the command line: each part changes what is learned, and all go with the techniques."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

import ranet
from tests.end_to_end.commands import SMALL, train

SHORT_COSINE = [*SMALL, "optim=cosine", "optim.schedule.warmup_epochs=0", "evaluate=false", "run=run"]
PARTS = {
    "smoothing": "optim.label_smoothing=0.1",
    "weights": "optim.exit_weights=[0.5,1.5]",
    "decay": "optim.decay_norm_and_bias=false",
    "average": "optim.ema.decay=0.9",
    "erasing": "optim.augmentation.erasing=0.5",
    "cutout": "optim.augmentation.cutout=8",
    "mixup": "optim.augmentation.mixup=0.2",
    "cutmix": "optim.augmentation.cutmix=1",
}


def learned(folder: Path, *options: str) -> Tensor:
    """The weights of a short run, as one vector."""
    folder.mkdir()
    train(*SHORT_COSINE, *options, folder=folder)
    weights = torch.load(folder / "run" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    return torch.cat([value.flatten().double() for name, value in weights.items() if name.endswith("weight")])


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Tensor:
    return learned(tmp_path_factory.mktemp("plain") / "plain")


# Every other one on all days, the others among the slow tests.
@pytest.mark.parametrize(
    "part", [pytest.param(part, marks=[] if i % 2 else [pytest.mark.slow]) for i, part in enumerate(PARTS)]
)
def test_each_part_changes_what_is_learned(part: str, plain: Tensor, tmp_path: Path) -> None:
    assert not torch.equal(learned(tmp_path / part, PARTS[part]), plain)


def test_switched_off_it_is_the_plain_training(plain: Tensor, tmp_path: Path) -> None:
    off = ["optim.label_smoothing=0", "optim.exit_weights=[1,1]", "optim.augmentation.mixing_probability=0.5"]
    torch.testing.assert_close(learned(tmp_path / "off", *off), plain)


@pytest.mark.parametrize(
    "technique", ["plain", *(pytest.param(name, marks=pytest.mark.slow) for name in ("ge_isc_ofa", "imta_two_stage"))]
)
def test_it_goes_with_the_techniques(technique: str, tmp_path: Path) -> None:
    options = ["trainer.max_epochs=4", "data.batch_size=32", "evaluate=false"]
    train(*SMALL, "optim=modern", f"technique={technique}", *options, "run=run", folder=tmp_path)
    trained = ranet.load_trained(tmp_path / "run")
    assert isinstance(trained.network, ranet.InlineCollaboration) == (technique != "plain")
    checkpoint = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert [group["weight_decay"] for group in checkpoint["optimizer_states"][0]["param_groups"]] == [5e-4, 0.0]
    going_on, kept = checkpoint["current_model_state"], checkpoint["state_dict"]
    moved = {name for name in kept if not torch.equal(going_on[name], kept[name])}
    assert any(name.endswith("linear.weight") for name in moved), "what is kept is an average"
    if technique == "imta_two_stage":
        first = torch.load(tmp_path / "run" / "stage1" / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
        for name, value in first.items():
            if name.startswith("network.") and ".linear." not in name:
                assert torch.equal(kept[f"network.{name}"], value), name
