from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from ranet.errors import UserError
from ranet.training import load_trained
from tests.training.examples import small_classifier, small_data, small_trainer


class Poison(Callback):
    """Spoils a weight before a step, or after it, and remembers the weights of epoch 1."""

    def __init__(self, value: float, before: int = 0, after: int = 0) -> None:
        self.value, self.before, self.after = value, before, after
        self.good: dict[str, torch.Tensor] = {}

    def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, *_: Any) -> None:
        if trainer.global_step + 1 == self.before:
            self.spoil(module)
        if trainer.global_step == 4:
            self.good = {name: value.clone() for name, value in module.network.state_dict().items()}

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *_: Any) -> None:
        if trainer.global_step == self.after:
            self.spoil(module)

    def spoil(self, module: pl.LightningModule) -> None:
        with torch.no_grad():
            module.network.readouts[1].weight[0, 0] = self.value


# Step 6 is in the midst of epoch 2, step 8 its last; each pair of values of two columns is in one of the rows.
@pytest.mark.parametrize(
    ("value", "validates", "step"),
    [(float("nan"), True, 6), (float("nan"), False, 8), (float("inf"), True, 8), (float("inf"), False, 6)],
)
def test_training_stops_and_names_the_step(tmp_path: Path, value: float, validates: bool, step: int) -> None:
    poison = Poison(value, before=step)
    with pytest.raises(UserError, match=rf"not a finite number at step {step} \(epoch 2\)"):
        small_trainer(tmp_path, 3, poison, validates=validates).fit(
            small_classifier(), datamodule=small_data(validation_size=0.1 if validates else 0)
        )
    kept = load_trained(tmp_path / "checkpoints" / "last.ckpt")
    assert kept.epoch == 1
    assert all(torch.equal(value, poison.good[name]) for name, value in kept.network.state_dict().items())


def test_a_last_step_that_spoils_the_weights_is_seen_before_its_checkpoint(tmp_path: Path) -> None:
    poison = Poison(float("nan"), after=8)
    with pytest.raises(UserError, match=r"at step 8 \(epoch 2\); the checkpoints of the epochs before are kept"):
        small_trainer(tmp_path, 3, poison).fit(small_classifier(), datamodule=small_data())
    for name in ("last.ckpt", "best.ckpt"):
        kept = load_trained(tmp_path / "checkpoints" / name)
        assert kept.epoch == 1
        assert all(torch.equal(value, poison.good[name]) for name, value in kept.network.state_dict().items())


def test_in_the_first_epoch_there_is_nothing_to_keep(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"at step 1 \(epoch 1\); there is no checkpoint"):
        small_trainer(tmp_path, 1, Poison(float("nan"), before=1)).fit(small_classifier(), datamodule=small_data())
    assert not list(tmp_path.rglob("*.ckpt"))
