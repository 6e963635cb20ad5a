"""The command line that a user with several processors or machines changes by one line."""

import csv
from pathlib import Path

import pytest
import torch

from ranet.data import ImageData
from ranet.models import create_network
from ranet.training import multi_exit_loss
from tests.end_to_end.commands import SHORT, SMALL, content, start

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One step of 2 x 32 images, with the whole command around it."""
    folder = tmp_path_factory.mktemp("ddp")
    run = start(
        *("train", *SHORT, *SMALL, "data.train_limit=64", "data.batch_size=32", "run=run"),
        *("trainer.devices=2", "trainer.strategy=ddp", "optim.optimizer.weight_decay=0"),
        *("logger.wandb.mode=offline", "seed=5", "trainer.precision=64-true"),
        folder=folder,
    )
    out, err = run.communicate(timeout=300)
    assert run.returncode == 0, err
    assert out.count("Training digits_msdnet_plain_seed5") == 1
    assert out.count("figure: ") == 5
    assert "sync_dist" not in err
    return folder


def test_two_stages_train_in_two_processes_and_go_on_between_them(tmp_path: Path) -> None:
    options = [
        *("train", *SHORT, *SMALL, "data.train_limit=64", "technique=imta_two_stage", "evaluate=false", "run=run"),
        *("trainer.devices=2", "trainer.strategy=ddp", "trainer.max_epochs=2"),
    ]
    for resume in ("resume=false", "resume=true"):
        run = start(*options, resume, folder=tmp_path)
        _, err = run.communicate(timeout=300)
        assert run.returncode == 0, err
        assert (tmp_path / "run" / "stage1" / "checkpoints" / "last.ckpt").exists()
        last = tmp_path / "run" / "checkpoints" / "last.ckpt"
        assert torch.load(last, weights_only=True)["epoch"] == 0
        last.unlink()


def test_only_one_process_writes(folder: Path) -> None:
    assert [path.name for path in folder.iterdir()] == ["run"], "the other process made a folder of its own"
    files = content(folder / "run")
    assert {"config.yaml", "environment.json", "metrics.csv", "evaluation/anytime.csv"} <= set(files)
    with (folder / "run" / "metrics.csv").open(newline="") as file:
        assert [bool(row["train/loss"]) for row in csv.DictReader(file)] == [False, False, True]
    assert len(list((folder / "run" / "wandb").glob("offline-run-*"))) == 1
    assert not [name for name in files if "partial" in name]


def test_the_gradient_is_the_mean_of_both_halves(folder: Path) -> None:
    """Batch normalisation learns from the half that a process has, so the halves are taken one by one here as well.

    After one step of SGD without weight decay the momentum is the gradient. That both halves together are the batch of
    one process, and the same gradient where batch normalisation is frozen, is in tests/training/test_distributed.py.
    In double precision 1e-9 is far above rounding on any processor.
    """
    checkpoint = torch.load(folder / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    (optimizer,) = checkpoint["optimizer_states"]
    recipe = checkpoint["ranet"]["network"]
    torch.manual_seed(5)
    network = create_network(recipe["name"], **recipe["options"]).double()
    names = [name for name, _ in network.named_parameters()]

    data = ImageData("digits", batch_size=64, train_limit=64, train_copies=1, eval_copies=1, seed=5)
    ((images, labels),) = data.train_dataloader()
    images = images.double()
    for rank in range(2):
        (multi_exit_loss(network(images[rank::2]), labels[rank::2]) / 2).backward()
    for i, (name, weight) in enumerate(network.named_parameters()):
        ours = optimizer["state"][i]["momentum_buffer"]
        assert weight.grad is not None
        scale = weight.grad.abs().max().item()
        torch.testing.assert_close(ours, weight.grad, rtol=0, atol=1e-9 * scale, msg=name)
        moved = weight.detach() - 0.1 * ours
        torch.testing.assert_close(checkpoint["state_dict"][f"network.{names[i]}"], moved, msg=name)
