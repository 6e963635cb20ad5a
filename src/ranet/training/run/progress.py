"""Progress of training: a line for each finished epoch, and a bar for the current one."""

from __future__ import annotations

from time import monotonic
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from ranet.support.progress import Bar
from ranet.training.classifier import MultiExitClassifier


class EpochProgress(Callback):
    """A callback that prints a line for each finished epoch, and shows a bar if standard output is a terminal.

    The line is like ``epoch 3/12  loss 0.412  train 88.1 / 91.2 %  val 93.0 / 95.1 % (first / last exit)  12 s``. The
    trainer needs no other progress bar.

    Args:
        bar: whether to show the bar.
    """

    def __init__(self, bar: bool = True) -> None:
        self._bar = bar
        self._shown = Bar("", hidden=True)
        self._begun = 0.0
        self._validated = False
        self._finished: tuple[str, float] | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the bar."""
        self._shown = Bar("", hidden=not (self._bar and trainer.is_global_zero), among_lines=True)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print the line of the previous epoch, whose checkpoint has been written."""
        self._print_finished(trainer, pl_module)
        self._begun, self._validated = monotonic(), False
        self._shown.begin(_name(trainer), trainer.num_training_batches)

    def on_train_batch_end(self, *_: Any) -> None:
        """Move the bar."""
        self._shown.step()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restart the bar for validation."""
        self._shown.begin(f"{_name(trainer)}, validation", sum(trainer.num_val_batches))

    def on_validation_batch_end(self, *_: Any) -> None:
        """Move the bar."""
        self._shown.step()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Record that this epoch has validation results."""
        self._validated = True

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Record the name and duration of the epoch."""
        self._finished = _name(trainer), monotonic() - self._begun

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print the line of the last epoch, and remove the bar."""
        self._print_finished(trainer, pl_module)
        self._shown.end()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Remove the bar."""
        self._shown.end()

    def _print_finished(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._finished is not None and trainer.is_global_zero:
            assert isinstance(pl_module, MultiExitClassifier)
            (name, seconds), exits = self._finished, pl_module.network.num_exits
            values = {name: float(value) for name, value in trainer.callback_metrics.items()}
            splits = ["train", "val"] if self._validated else ["train"]
            accuracies = [f"{split} {_percent(values, split, exits)} %" for split in splits]
            which = " (first / last exit)" if exits > 1 else ""
            parts = [name, f"loss {values['train/loss']:.3f}", "  ".join(accuracies) + which, _time(seconds)]
            print("  ".join(parts), flush=True)
        self._finished = None


def _name(trainer: pl.Trainer) -> str:
    number = str(trainer.current_epoch + 1).rjust(len(str(trainer.max_epochs)))
    return f"epoch {number}/{trainer.max_epochs}"


def _percent(values: dict[str, float], split: str, exits: int) -> str:
    """Return the accuracies of the first and last exit."""
    return " / ".join(f"{100 * values[f'{split}/accuracy_exit{k}']:.1f}" for k in dict.fromkeys((1, exits)))


def _time(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
