"""The Lightning module around a staged network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim import Optimizer
from torchmetrics import Metric
from torchmetrics.classification import MulticlassAccuracy

from ranet.errors import UserError
from ranet.models.staged import StagedNetwork
from ranet.training.loss import multi_exit_loss
from ranet.training.schedules import Schedule

#: Turns parameters into an optimizer.
OptimizerFactory = Callable[[Iterable[nn.Parameter]], Optimizer]


class MultiExitClassifier(pl.LightningModule):
    """Trains all exits of a staged network together on the weighted sum of their cross-entropies.

    Logs, per epoch: ``train/loss``, ``train/accuracy_exit1`` ... ``train/accuracy_exitK``, the same under ``val/``, and
    ``val/accuracy_mean``, the mean over the exits, by which the best checkpoint is chosen.

    Args:
        network: the network to train.
        optimizer: makes the optimizer from the parameters.
        schedule: makes the learning-rate schedule from the optimizer, the number of epochs and the number of steps.
        exit_weights: K weights of the exits' losses, or None for the plain sum.
        recipe: what to store with each checkpoint so that it can be used without the command that made it; see
            ``ranet.training.checkpoints``.

    Raises:
        UserError: if the number of weights is not the number of exits.
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
        if exit_weights is not None and len(exit_weights) != network.num_exits:
            raise UserError(
                f"exit_weights has {len(exit_weights)} weights, but the network has {network.num_exits} exits; "
                "give one weight for each exit."
            )
        self.network = network
        self.exit_weights = exit_weights
        self.recipe = recipe
        self._make_optimizer = optimizer
        self._make_schedule = schedule
        self._train_accuracy = self._accuracy_per_exit()
        self._val_accuracy = self._accuracy_per_exit()

    def _accuracy_per_exit(self) -> nn.ModuleList:
        classes = self.network.num_classes
        return nn.ModuleList(MulticlassAccuracy(classes, average="micro") for _ in range(self.network.num_exits))

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of every exit, (K, B, C)."""
        return self.network(images)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> Tensor:
        """Return the loss of a batch of images (B, 3, H, W) and labels (B,)."""
        return self._step("train", batch, self._train_accuracy)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> None:
        """Update the validation metrics with a batch."""
        self._step("val", batch, self._val_accuracy)

    def _step(self, split: str, batch: tuple[Tensor, Tensor], accuracies: nn.ModuleList) -> Tensor:
        images, labels = batch
        logits = self(images)
        loss = multi_exit_loss(logits, labels, self.exit_weights)
        # Lightning keeps the mean over the epoch in the loop's state, so that a resumed run logs the same numbers.
        self.log(
            f"{split}/loss", loss, on_step=False, on_epoch=True, prog_bar=True, batch_size=len(labels), sync_dist=True
        )
        for exit_logits, accuracy in zip(logits.detach(), accuracies, strict=True):
            assert isinstance(accuracy, Metric)
            accuracy.update(exit_logits, labels)
        return loss

    def on_train_epoch_end(self) -> None:
        """Log the accuracy of each exit on the (augmented) training images of this epoch."""
        self._log_accuracies("train", self._train_accuracy)

    def on_validation_epoch_end(self) -> None:
        """Log the accuracy of each exit on the validation images."""
        self._log_accuracies("val", self._val_accuracy)

    def _log_accuracies(self, split: str, metrics: nn.ModuleList) -> None:
        values = []
        for k, metric in enumerate(metrics, start=1):
            assert isinstance(metric, Metric)
            values.append(metric.compute())
            metric.reset()
            self.log(f"{split}/accuracy_exit{k}", values[-1])
        self.log(f"{split}/accuracy_mean", torch.stack(values).mean(), prog_bar=True)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Make the optimizer, and the schedule over all steps of the run."""
        optimizer = self._make_optimizer(self.network.parameters())
        epochs, steps = self.trainer.max_epochs, int(self.trainer.estimated_stepping_batches)
        if epochs is None or epochs < 1:
            raise UserError(
                "trainer.max_epochs must be at least 1: the learning-rate schedule is laid over all epochs."
            )
        schedule = self._make_schedule(optimizer, epochs, steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store how to build the network beside its weights."""
        if self.recipe is not None:
            checkpoint["ranet"] = self.recipe
