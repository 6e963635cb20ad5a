"""The Lightning module around a staged network."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from ranet.errors import UserError
from ranet.models.adapted.features import on_features as heads_alone
from ranet.models.staged import StagedNetwork, State
from ranet.models.staged_checks import check_network
from ranet.training.epoch_metrics import EpochMetrics
from ranet.training.loss import multi_exit_loss
from ranet.training.recipe.parameter_groups import parameter_groups
from ranet.training.recipe.schedules import Schedule
from ranet.training.techniques.distillation import distillation_loss
from ranet.training.techniques.gradient_equilibrium import Equilibrium, logits_and_last_state
from ranet.training.techniques.survivors import survivor_weights
from ranet.training.techniques.teachers import Teacher

#: Turns parameters, or groups of them, into an optimizer.
OptimizerFactory = Callable[[list[nn.Parameter] | list[dict[str, Any]]], Optimizer]
#: Turns images (B, 3, H, W) and labels (B,) into mixed images and the probabilities of their classes (B, C).
Mixing = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
Made = TypeVar("Made")


class MultiExitClassifier(pl.LightningModule):
    """A Lightning module that trains all exits of a staged network together, on labels or also with a teacher.

    The loss is the weighted sum of the exits' cross-entropies, or the distillation loss. Each epoch logs
    ``train/loss``, ``train/accuracy_exit1`` ... ``train/accuracy_exitK``, the same under ``val/``, and
    ``val/accuracy_mean``, the mean over the exits, which chooses the best checkpoint. Epochs are counted from 1.

    Args:
        network: the network to train.
        optimizer: function that makes the optimizer from the parameters.
        schedule: function that makes the learning-rate schedule from the optimizer and the numbers of epochs and steps.
        exit_weights: K weights of the exits' losses, none below 0, or None for the plain sum.
        label_smoothing: share of each training label that is spread evenly over all classes.
        mixing: function that mixes each training batch and its labels (mixup, cutmix), or None. The accuracy on mixed
            images is that of the label with the larger share.
        equilibrium: see ``forward_in_stages``.
        teacher: source of logits that the exits also learn from; None trains only on labels.
        distillation: loss with a teacher: ``distillation_loss``, with options if they are not its defaults.
        survivors: whether an image counts more at the exits that it is likely to reach (`survivor_weights`).
        only: the modules of the network to train; all other weights, and statistics of batch normalisation, do not
            change. None trains all.
        on_features: whether the batches hold features in place of images (`features_of`), of a network with added exits
            of which only heads are trained.
        decay_norm_and_bias: whether weight decay also applies to normalisation layers and biases.
        compile: run the network through ``torch.compile``: True, or the name of one of its modes ("reduce-overhead"
            records CUDA graphs).
        channels_last: whether to store the channels of a pixel next to each other in memory.
        recipe: content to store in each checkpoint, so that it can be used without the command that made it; see
            ``ranet.training.checkpoints``.

    Raises:
        UserError: if the network breaks the contract of `StagedNetwork`, the weights are not one number for each exit,
            or the label smoothing is not in [0, 1).
    """

    def __init__(
        self,
        network: StagedNetwork,
        optimizer: OptimizerFactory,
        schedule: Schedule,
        exit_weights: Sequence[float] | None = None,
        label_smoothing: float = 0.0,
        mixing: Mixing | None = None,
        equilibrium: Equilibrium | None = None,
        teacher: Teacher | None = None,
        distillation: Callable[..., Tensor] = distillation_loss,
        survivors: bool = False,
        only: Sequence[nn.Module] | None = None,
        on_features: bool = False,
        decay_norm_and_bias: bool = True,
        compile: bool | str = False,
        channels_last: bool = False,
        recipe: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        check_network(network)
        if exit_weights is not None:
            _check_exit_weights(exit_weights, network.num_exits)
        if not isinstance(label_smoothing, int | float) or not 0 <= label_smoothing < 1:
            raise UserError(f"label_smoothing={label_smoothing} must be at least 0 and less than 1.")
        self.network = network
        self.teacher = teacher
        self.exit_weights = exit_weights
        self.label_smoothing = label_smoothing
        self.mixing = mixing
        self.equilibrium = equilibrium
        self._distillation_loss = distillation
        self.survivors = survivors
        self.decay_norm_and_bias = decay_norm_and_bias
        self.recipe = recipe
        self._make_optimizer = optimizer
        self._make_schedule = schedule
        self._memory_format = torch.channels_last if channels_last else torch.contiguous_format
        network.to(memory_format=self._memory_format)
        # In tuples, so that these are not submodules a second time.
        self._computes = (heads_alone(network) if on_features else network,)
        self._only = None if only is None else tuple(only)
        self._run = logits_and_last_state
        if compile:
            self._run = torch.compile(logits_and_last_state, mode=None if compile is True else compile)
        self._train_metrics = EpochMetrics("train", network.num_exits)
        self._val_metrics = EpochMetrics("val", network.num_exits)
        if self._only is not None:
            network.requires_grad_(False)
            for module in self._only:
                module.requires_grad_(True)
        self.train()

    def train(self, mode: bool = True) -> MultiExitClassifier:
        """Set training mode, in which what is not trained stays in evaluation mode."""
        super().train(mode)
        if mode and self._only is not None:
            self.network.eval()
            for module in self._only:
                module.train()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of every exit, (K, B, C)."""
        return self._logits_and_state(images, None)[0]

    def _logits_and_state(self, images: Tensor, equilibrium: Equilibrium | None) -> tuple[Tensor, State]:
        if images.ndim == 4:
            images = images.contiguous(memory_format=self._memory_format)
        return self._run(self._computes[0], images, equilibrium)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> Tensor:
        """Return the loss of a batch of images (B, 3, H, W) and labels (B,)."""
        images, labels = batch
        if self.mixing is not None:
            images, labels = self.mixing(images, labels)
        logits, last_state = self._logits_and_state(images, self.equilibrium)
        weights = survivor_weights(logits) if self.survivors else None
        if self.teacher is None:
            loss = multi_exit_loss(logits, labels, self.exit_weights, self.label_smoothing, weights)
        else:
            loss = self._distillation_loss(
                logits,
                self.teacher(self.network, images, logits, last_state),
                labels,
                exit_weights=self.exit_weights,
                label_smoothing=self.label_smoothing,
                image_weights=weights,
            )
        self._train_metrics.update(loss, logits, labels if labels.ndim == 1 else labels.argmax(dim=1))
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> Tensor:
        """Return the weighted sum of the exits' cross-entropies of a batch of validation images."""
        images, labels = batch
        logits = self(images)
        loss = multi_exit_loss(logits, labels, self.exit_weights)
        self._val_metrics.update(loss, logits, labels)
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
        # Lightning would write the training row after the checkpoint of its epoch, and a run killed in between would
        # resume without it.
        row = {name: value.item() for name, value in values.items()}
        for logger in self.loggers:
            logger.log_metrics({"epoch": self.current_epoch + 1, **row}, step=max(0, self.global_step - 1))
            logger.save()

    def make_optimization(self, epochs: int, steps: int | None = None) -> tuple[Optimizer, LRScheduler]:
        """Make the optimizer, and the schedule over all epochs and training steps of a run.

        Raises:
            UserError: if the optimizer or the schedule cannot be made from its options.
        """
        optimizer = _make("optimizer", self._make_optimizer, parameter_groups(self.network, self.decay_norm_and_bias))
        return optimizer, _make("schedule", self._make_schedule, optimizer, epochs, steps or epochs)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Make the optimizer and schedule of a run."""
        epochs = self.trainer.max_epochs
        if epochs is None or epochs < 1:
            raise UserError("trainer.max_epochs must be at least 1: the learning-rate schedule covers all epochs.")
        optimizer, schedule = self.make_optimization(epochs, int(self.trainer.estimated_stepping_batches))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the recipe in the checkpoint."""
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
    """Call a factory, and turn errors in the user's options into a UserError."""
    try:
        return factory(*arguments)
    except UserError:
        raise
    except (TypeError, ValueError) as error:
        raise UserError(f"The {what} cannot be made from its options: {error}.") from error
