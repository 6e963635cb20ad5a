"""Metrics of an epoch: the mean loss and the accuracy of each exit."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric


class EpochMetrics(Metric):
    """Mean loss and accuracy of each exit on a split, over the batches and processes of an epoch.

    All exits are counted at once: separate metrics would take longer than a training step of a small network on a GPU.

    Args:
        split: prefix of the names: ``SPLIT/loss``, ``SPLIT/accuracy_exit1`` ... ``SPLIT/accuracy_exitK`` and
            ``SPLIT/accuracy_mean``, the mean over the exits.
        num_exits: K.
    """

    loss: Tensor
    right: Tensor
    images: Tensor

    def __init__(self, split: str, num_exits: int) -> None:
        super().__init__()
        self.split = split
        self.add_state("loss", torch.zeros(()), dist_reduce_fx="sum")
        self.add_state("right", torch.zeros(num_exits, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("images", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Add a batch: its mean loss, its logits (K, B, C) and its labels (B,)."""
        self.loss += loss.detach() * len(labels)
        self.right += (logits.detach().argmax(dim=-1) == labels).sum(dim=1)
        self.images += len(labels)

    def compute(self) -> dict[str, Tensor]:
        """Return the values of the epoch by name, the same in all processes."""
        accuracies = self.right / self.images
        named = {"loss": self.loss / self.images}
        named |= {f"accuracy_exit{k}": accuracy for k, accuracy in enumerate(accuracies, start=1)}
        named["accuracy_mean"] = accuracies.mean()
        return {f"{self.split}/{name}": value for name, value in named.items()}

    def results(self) -> dict[str, Tensor]:
        """Return the values of the epoch by name, and reset the metric for the next epoch."""
        values: dict[str, Tensor] = self.compute()
        self.reset()
        return values
