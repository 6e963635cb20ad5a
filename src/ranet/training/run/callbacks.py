"""Callbacks of the training loop: random state, signals, and stopping at a loss that is not finite."""

from __future__ import annotations

import random
import signal
import threading
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from ranet.errors import UserError


class RandomState(Callback):
    """A callback that stores the state of all random generators in each checkpoint, and restores it on resuming.

    Order and augmentation of the data do not need it (they follow from seed and epoch), but all other random numbers
    in training do.
    """

    def __init__(self) -> None:
        self._restored: dict[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        """Return the states of the generators of PyTorch (CPU and every CUDA device), NumPy and Python."""
        version, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
        return {
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            # Plain types, so that the checkpoint can be loaded without running code from it.
            "numpy": [
                str(version),
                torch.from_numpy(np.asarray(keys).astype(np.int64)),
                int(position),
                int(has_gauss),
                float(cached),
            ],
            "python": list(random.getstate()),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the states until training starts, so that the setup in between cannot change them."""
        self._restored = state_dict

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restore the states of the generators from the checkpoint."""
        if self._restored is None:
            return
        torch.set_rng_state(self._restored["torch"])
        if len(self._restored["cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(self._restored["cuda"])
        version, keys, *rest = self._restored["numpy"]
        np.random.set_state((version, keys.numpy().astype(np.uint32), *rest))
        version, internal, gauss = self._restored["python"]
        random.setstate((version, tuple(internal), gauss))
        self._restored = None


class OwnSignals(Callback):
    """A callback that keeps the program's own handler of SIGTERM, which Lightning replaces.

    Lightning's handler waits for the end of the step, exits with status 0, and in a distributed run waits for processes
    that got no signal.
    """

    def __init__(self) -> None:
        self._handler = signal.getsignal(signal.SIGTERM)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restore the handler."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._handler)


_NEVER = torch.iinfo(torch.long).max


class StopAtBadLoss(Callback):
    """A callback that ends training with a UserError if the loss is NaN or infinite, before the next checkpoint.

    The loss stays on its device, and is checked every ``every_n_steps`` steps and at the end of each epoch. The error
    still names the first step with a bad loss, or the step after which the validation loss is bad. In a distributed run
    all processes stop together.
    """

    def __init__(self, every_n_steps: int = 50) -> None:
        self.every_n_steps = every_n_steps
        self._first_bad: Tensor | None = None

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Record the first step with a bad loss, and check every ``every_n_steps`` steps."""
        self._remember(trainer.global_step, outputs["loss"])
        if trainer.global_step % self.every_n_steps == 0:
            self._stop_if_bad(trainer)

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Record the last step if its weights give a bad validation loss: no training loss has used them yet."""
        self._remember(trainer.global_step, outputs)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check before the best checkpoint is chosen."""
        self._stop_if_bad(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check before the last checkpoint is written."""
        self._stop_if_bad(trainer)

    def _remember(self, step: int, loss: Tensor) -> None:
        loss = loss.detach()
        if self._first_bad is None:
            self._first_bad = torch.full((), _NEVER, device=loss.device)
        bad = torch.where(loss.isfinite(), _NEVER, step)
        self._first_bad = torch.minimum(self._first_bad, bad)

    def _stop_if_bad(self, trainer: pl.Trainer) -> None:
        assert self._first_bad is not None, "no step was taken"
        step = int(trainer.strategy.reduce(self._first_bad, reduce_op="min"))
        if step < _NEVER:
            kept = (
                "the checkpoints of the epochs before are kept" if trainer.current_epoch else "there is no checkpoint"
            )
            raise UserError(
                f"The loss was not a finite number at step {step} (epoch {trainer.current_epoch + 1}); {kept}; "
                "try a smaller optim.optimizer.lr or a longer warm-up."
            )
