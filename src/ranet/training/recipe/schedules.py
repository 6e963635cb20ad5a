"""Learning-rate schedules, as factors of the base rate over a whole training run."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from ranet.errors import UserError

#: Turns an optimizer, the number of epochs and of steps into a scheduler that is stepped after every training step.
Schedule = Callable[[Optimizer, int, int], LambdaLR]


def step_schedule(
    optimizer: Optimizer, epochs: int, steps: int, milestones: Sequence[float], factor: float = 0.1
) -> LambdaLR:
    """Return a schedule that multiplies the rate by ``factor`` at each milestone, a share of the training run.

    Milestones are rounded to the start of an epoch, and the first epoch always has the base rate. The papers use
    milestones 1/2 and 3/4 of 300 epochs on CIFAR, and 1/3 and 2/3 of 90 epochs on ImageNet.

    Args:
        optimizer: the optimizer to drive.
        epochs: number of epochs.
        steps: number of training steps in all epochs together.
        milestones: increasing shares between 0 and 1.
        factor: factor at each milestone.

    Raises:
        UserError: if the milestones are not increasing shares.
    """
    if list(milestones) != sorted(milestones) or not all(0 < share < 1 for share in milestones):
        raise UserError(f"milestones={list(milestones)} must be increasing shares of the training, between 0 and 1.")
    per_epoch = max(1, steps // max(1, epochs))
    starts = [max(1, round(share * epochs)) * per_epoch for share in milestones]
    return LambdaLR(optimizer, lambda step: factor ** bisect_right(starts, step))


def cosine_schedule(
    optimizer: Optimizer, epochs: int, steps: int, warmup_epochs: float = 0.0, final_factor: float = 0.0
) -> LambdaLR:
    """Return a schedule with a linear warm-up, then half a cosine down to ``final_factor`` of the base rate.

    Loshchilov & Hutter, "SGDR", ICLR 2017 (without restarts), with the warm-up of Goyal et al., 2017.

    Args:
        optimizer: the optimizer to drive.
        epochs: number of epochs.
        steps: number of training steps in all epochs together.
        warmup_epochs: length of the warm-up, in epochs.
        final_factor: end of the cosine, as a share of the base rate.

    Raises:
        UserError: if the warm-up is not shorter than the training.
    """
    if not 0 <= warmup_epochs < epochs:
        raise UserError(
            f"warmup_epochs={warmup_epochs} must be at least 0 and less than {epochs}, the number of epochs."
        )
    warmup = round(warmup_epochs * steps / epochs)

    def rate(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        progress = min(1.0, (step - warmup) / max(1, steps - warmup))
        return final_factor + (1 - final_factor) * 0.5 * (1 + math.cos(math.pi * progress))

    return LambdaLR(optimizer, rate)
