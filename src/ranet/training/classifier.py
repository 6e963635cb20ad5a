"""The Lightning module around a staged network."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import pytorch_lightning as pl
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from ranet.errors import UserError
from ranet.models.staged import StagedNetwork
from ranet.training.epoch_metrics import EpochMetrics
from ranet.training.loss import multi_exit_loss
from ranet.training.schedules import Schedule

#: Turns parameters into an optimizer.
OptimizerFactory = Callable[[Iterable[nn.Parameter]], Optimizer]
Made = TypeVar("Made")


class MultiExitClassifier(pl.LightningModule):
    """Trains all exits of a staged network together on the weighted sum of their cross-entropies.

    Logs, per epoch: ``train/loss``, ``train/accuracy_exit1`` ... ``train/accuracy_exitK``, the same under ``val/``, and
    ``val/accuracy_mean``, the mean over the exits, by which the best checkpoint is chosen.

    Args:
        network: the network to train.
        optimizer: makes the optimizer from the parameters.
        schedule: makes the learning-rate schedule from the optimizer, the number of epochs and the number of steps.
        exit_weights: K weights of the exits' losses, none below 0, or None for the plain sum.
        recipe: what to store with each checkpoint so that it can be used without the command that made it; see
            ``ranet.training.checkpoints``.

    Raises:
        UserError: if the weights are not one number for each exit.
    """

    def __init__(
        self,
        network: StagedNetwork,
        optimizer: OptimizerFactory,
        schedule: Schedule,
        exit_weights: Sequence[float] | None = None,
        recipe: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if exit_weights is not None:
            _check_exit_weights(exit_weights, network.num_exits)
        self.network = network
        self.exit_weights = exit_weights
        self.recipe = recipe
        self._make_optimizer = optimizer
        self._make_schedule = schedule
        self._train_metrics = EpochMetrics("train", network.num_exits, network.num_classes)
        self._val_metrics = EpochMetrics("val", network.num_exits, network.num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of every exit, (K, B, C)."""
        return self.network(images)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> Tensor:
        """Return the loss of a batch of images (B, 3, H, W) and labels (B,)."""
        return self._step(batch, self._train_metrics)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> Tensor:
        """Return the loss of a batch of validation images."""
        return self._step(batch, self._val_metrics)

    def _step(self, batch: tuple[Tensor, Tensor], metrics: EpochMetrics) -> Tensor:
        images, labels = batch
        logits = self(images)
        loss = multi_exit_loss(logits, labels, self.exit_weights)
        metrics.update(loss, logits, labels)
        return loss

    def on_train_epoch_end(self) -> None:
        """Log loss and accuracies on the (augmented) training images of this epoch."""
        self._log(self._train_metrics.results())

    def on_validation_epoch_end(self) -> None:
        """Log loss and accuracies on the validation images."""
        self._log(self._val_metrics.results())

    def _log(self, values: dict[str, Tensor]) -> None:
        for name, value in values.items():
            shown = name.endswith(("loss", "accuracy_mean"))
            self.log(name, value, prog_bar=shown, logger=False, sync_dist=True)
        # Lightning itself would write the row of the training images after the checkpoint of their epoch, and a run
        # that is killed in between would resume without it.
        row = {name: value.item() for name, value in values.items()}
        for logger in self.loggers:
            logger.log_metrics({"epoch": self.current_epoch, **row}, step=max(0, self.global_step - 1))
            logger.save()

    def make_optimization(self, epochs: int, steps: int | None = None) -> tuple[Optimizer, LRScheduler]:
        """Make the optimizer, and the schedule over all epochs and training steps of a run.

        Raises:
            UserError: if one of them cannot be made from its options.
        """
        optimizer = _make("optimizer", self._make_optimizer, self.network.parameters())
        return optimizer, _make("schedule", self._make_schedule, optimizer, epochs, steps or epochs)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Make optimizer and schedule for the run that begins."""
        epochs = self.trainer.max_epochs
        if epochs is None or epochs < 1:
            raise UserError(
                "trainer.max_epochs must be at least 1: the learning-rate schedule is laid over all epochs."
            )
        optimizer, schedule = self.make_optimization(epochs, int(self.trainer.estimated_stepping_batches))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store how to build the network beside its weights."""
        if self.recipe is not None:
            checkpoint["ranet"] = self.recipe


def _check_exit_weights(weights: Sequence[float], num_exits: int) -> None:
    if not isinstance(weights, Sequence) or not all(isinstance(weight, int | float) for weight in weights):
        raise UserError(f"exit_weights={weights} must be a list of numbers, one for each of the {num_exits} exits.")
    if len(weights) != num_exits:
        raise UserError(
            f"exit_weights has {len(weights)} weights, but the network has {num_exits} exits; "
            "give one weight for each exit."
        )
    if not all(0 <= weight < math.inf for weight in weights) or not any(weights):
        raise UserError(f"exit_weights={weights} must be finite, none below 0 and not all 0.")


def _make(what: str, factory: Callable[..., Made], *arguments: Any) -> Made:
    """Call a factory whose options the user chose."""
    try:
        return factory(*arguments)
    except UserError:
        raise
    except (TypeError, ValueError) as error:
        raise UserError(f"The {what} cannot be made from its options: {error}.") from error
