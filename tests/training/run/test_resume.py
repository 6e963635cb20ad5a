"""A run that ends anywhere goes on from its last checkpoint as if nothing had happened."""

import random
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch.utils._pytree import tree_flatten

from ranet.models.checkpoint_files import read_checkpoint
from ranet.training import WholeFiles
from tests.training.examples import rows, small_classifier, small_data, small_trainer

EPOCHS = 2


class Killed(BaseException):
    """Stands in for SIGKILL, which tests/end_to_end sends."""


class NoisyImages(Callback):
    """Draws from the global generators, as dropout or mixup would: the data themselves do not."""

    def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, batch: Any, index: int) -> None:
        images, _ = batch
        images += 0.1 * torch.randn_like(images) + 0.01 * random.random()


class KillAt(Callback):
    def __init__(self, hook: str, step: int) -> None:
        self.step = step
        setattr(self, hook, self.kill)

    def kill(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == self.step and not trainer.sanity_checking:
            raise Killed


class KillAfterWriting(WholeFiles):
    """Is killed as soon as the n-th checkpoint of this name has its place."""

    def __init__(self, name: str, count: int) -> None:
        self.name, self.count = name, count

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        super().save_checkpoint(checkpoint, path, storage_options)
        self.count -= Path(path).name == self.name
        if self.count == 0 and Path(path).name == self.name:
            raise Killed


def train(folder: Path, *callbacks: Callback, checkpoint_io: WholeFiles | None = None, resume: bool = False) -> None:
    pl.seed_everything(7, verbose=False)
    last = folder / "checkpoints" / "last.ckpt"
    step = int(read_checkpoint(last)["global_step"]) if resume else None
    trainer = small_trainer(folder, EPOCHS, *callbacks, NoisyImages(), resume_step=step, checkpoint_io=checkpoint_io)
    trainer.fit(small_classifier(), datamodule=small_data(), ckpt_path=last if resume else None, weights_only=True)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was never killed."""
    folder = tmp_path_factory.mktemp("whole")
    train(folder)
    return folder


def assert_same_run(folder: Path, whole: Path) -> None:
    assert rows(folder) == rows(whole)
    for name in ("last.ckpt", "best.ckpt"):
        ours, theirs = (read_checkpoint(run / "checkpoints" / name) for run in (folder, whole))
        assert (ours["epoch"], ours["global_step"]) == (theirs["epoch"], theirs["global_step"]), name
        for part in ("state_dict", "optimizer_states", "lr_schedulers"):
            (values, shape), (expected, expected_shape) = tree_flatten(ours[part]), tree_flatten(theirs[part])
            assert shape == expected_shape
            for value, other in zip(values, expected, strict=True):
                assert torch.equal(value, other) if isinstance(other, torch.Tensor) else value == other, (name, part)


POINTS: dict[str, dict[str, Any]] = {
    "as soon as a checkpoint is written": {"checkpoint_io": KillAfterWriting("last.ckpt", 1)},
    "in the first step of an epoch": {"callback": KillAt("on_train_batch_end", 5)},
    "in the midst of an epoch": {"callback": KillAt("on_train_batch_end", 6)},
    "after the last step of an epoch": {"callback": KillAt("on_validation_start", 8)},
    "after validation": {"callback": KillAt("on_validation_end", 8)},
    "before the last checkpoint": {"callback": KillAt("on_train_epoch_end", 8)},
    "when all is written": {"checkpoint_io": KillAfterWriting("last.ckpt", 2)},
}


# Every other one on all days, the others among the slow tests.
@pytest.mark.parametrize(
    "point", [pytest.param(point, marks=[pytest.mark.slow] if i % 2 else []) for i, point in enumerate(POINTS)]
)
def test_a_run_killed_anywhere_resumes_exactly(point: str, whole: Path, tmp_path: Path) -> None:
    callbacks = [POINTS[point]["callback"]] if "callback" in POINTS[point] else []
    with pytest.raises(Killed):
        train(tmp_path, *callbacks, checkpoint_io=POINTS[point].get("checkpoint_io"))
    train(tmp_path, resume=True)
    assert_same_run(tmp_path, whole)


def test_a_run_killed_twice_resumes_exactly(whole: Path, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        train(tmp_path, KillAt("on_train_batch_end", 6))
    with pytest.raises(Killed):
        train(tmp_path, KillAt("on_train_batch_end", 7), resume=True)
    train(tmp_path, resume=True)
    assert_same_run(tmp_path, whole)


def test_a_run_killed_before_its_first_checkpoint_can_start_anew(whole: Path, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        train(tmp_path, checkpoint_io=KillAfterWriting("best.ckpt", 1))
    assert not (tmp_path / "checkpoints" / "last.ckpt").exists()
    train(tmp_path)
    assert_same_run(tmp_path, whole)


def test_a_finished_run_resumes_to_itself(whole: Path, tmp_path: Path) -> None:
    train(tmp_path)
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    train(tmp_path, resume=True)
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before
