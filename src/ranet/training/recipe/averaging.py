"""Averaged weights: an exponential moving average of the trained weights is validated and saved."""

from __future__ import annotations

from itertools import chain
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import WeightAveraging
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ranet.errors import UserError


class AveragedWeights(WeightAveraging):
    """Lightning's ``WeightAveraging`` with an exponential moving average that also works for short runs.

    After step t (1, 2, ...) each averaged value moves towards the current one::

        average <- d(t) * average + (1 - d(t)) * value,    d(t) = min(decay, (1 + t) / (10 + t))

    The average starts with the initial weights, which it forgets quickly because the decay is smaller in the first
    steps (as TensorFlow's ``ExponentialMovingAverage`` with ``num_updates``; Polyak & Juditsky, 1992, for the average
    itself). The statistics of batch normalisation are averaged with the weights; integers (its number of batches) are
    copied. Training itself is the same, to the last bit, as without the average.

    Validation uses the averaged weights, so they choose the best checkpoint. Each checkpoint holds them under
    ``state_dict``, which ``load_trained`` reads, and the weights to continue training under ``current_model_state``.
    After training, the module has the averaged weights.

    Unlike Lightning's ``EMAWeightAveraging``, it keeps the average on the training device from the start (the original
    makes it earlier, on the CPU), and no decision depends on a tensor, so that no step waits for a GPU.

    Args:
        decay: share of the average that stays in each step, above 0 and below 1; the average covers about
            ``1 / (1 - decay)`` steps.

    Raises:
        UserError: if the decay is out of its range.
    """

    def __init__(self, decay: float) -> None:
        number = isinstance(decay, int | float) and not isinstance(decay, bool)
        if not number or not 0 < decay < 1:
            raise UserError(f"optim.ema.decay={decay} must be above 0 and below 1, or null for none.")
        super().__init__()
        self.decay = decay

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Start the average with the initial weights."""
        if stage == "fit":
            self._average_model = AveragedModel(pl_module, device=trainer.strategy.root_device, use_buffers=True)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Update the average after each step of the optimizer."""
        step = trainer.global_step
        if step == self._latest_update_step:
            return  # gradients are accumulated
        assert self._average_model is not None, "Lightning calls setup first"
        move_average(self._average_model.module, pl_module, min(self.decay, (1 + step) / (10 + step)))
        self._average_model.n_averaged += 1
        self._latest_update_step = step


@torch.no_grad()
def move_average(average: nn.Module, current: nn.Module, decay: float) -> None:
    """Move the parameters and buffers of a module towards another's: ``decay * average + (1 - decay) * current``.

    Args:
        average: module with the average, changed in place.
        current: module of the same structure.
        decay: from 0 to 1; integers are copied, whatever the decay.
    """
    averages, values = (
        [tensor.detach() for tensor in chain(module.parameters(), module.buffers())] for module in (average, current)
    )
    floating: list[tuple[Tensor, Tensor]] = []
    for to, value in zip(averages, values, strict=True):
        if to.is_floating_point():
            floating.append((to, value))
        else:
            to.copy_(value)
    move = get_ema_multi_avg_fn(decay)
    move([to for to, _ in floating], [value for _, value in floating], 0)
