"""What is measured while an epoch goes by: the mean loss and the accuracy of each exit."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchmetrics import Metric, SumMetric
from torchmetrics.classification import MulticlassAccuracy


class EpochMetrics(nn.Module):
    """Mean loss and accuracy per exit of the images of a split, over the batches and processes of an epoch.

    Args:
        split: begins the names: ``SPLIT/loss``, ``SPLIT/accuracy_exit1`` ... ``SPLIT/accuracy_exitK`` and
            ``SPLIT/accuracy_mean``, the mean over the exits.
        num_exits: K.
        num_classes: C.
    """

    def __init__(self, split: str, num_exits: int, num_classes: int) -> None:
        super().__init__()
        self.split = split
        # Their own checks of the input would make the CPU wait for the GPU at each step.
        # Two sums: a MeanMetric without checks forgets its weights (torchmetrics 1.9).
        self.loss, self.images = SumMetric(nan_strategy="disable"), SumMetric(nan_strategy="disable")
        self.accuracies = nn.ModuleList(
            MulticlassAccuracy(num_classes, average="micro", validate_args=False) for _ in range(num_exits)
        )

    def update(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Take in a batch: its mean loss, its logits (K, B, C) and its labels (B,)."""
        self.loss.update(loss.detach() * len(labels))
        self.images.update(len(labels))
        for exit_logits, accuracy in zip(logits.detach(), self.accuracies, strict=True):
            assert isinstance(accuracy, Metric)
            accuracy.update(exit_logits, labels)

    def results(self) -> dict[str, Tensor]:
        """The values of the epoch by name, the same in all processes; the next epoch starts anew."""
        values = []
        for metric in (self.loss, self.images, *self.accuracies):
            assert isinstance(metric, Metric)
            values.append(metric.compute())
            metric.reset()
        loss, images, *accuracies = values
        named = {"loss": loss / images, **{f"accuracy_exit{k}": value for k, value in enumerate(accuracies, start=1)}}
        named["accuracy_mean"] = torch.stack(accuracies).mean()
        return {f"{self.split}/{name}": value for name, value in named.items()}
