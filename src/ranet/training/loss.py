"""The loss of a multi-exit network: a weighted sum of the exits' cross-entropies."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def exit_cross_entropies(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of each exit, in nats, computed in float32 whatever the precision of the logits.

    Args:
        logits: (K, B, C).
        labels: (B,) class indices.

    Returns:
        (K,) losses.

    Example:
        >>> exit_cross_entropies(torch.zeros(3, 2, 10), torch.tensor([0, 9]))  # ln 10
        tensor([2.3026, 2.3026, 2.3026])
    """
    exits, batch, classes = logits.shape
    losses = F.cross_entropy(logits.float().reshape(-1, classes), labels.repeat(exits), reduction="none")
    return losses.view(exits, batch).mean(dim=1)


def multi_exit_loss(logits: Tensor, labels: Tensor, exit_weights: Sequence[float] | None = None) -> Tensor:
    """Sum over exits of weight * cross-entropy; all weights are 1 in the papers (MSDNet, section 4).

    Args:
        logits: (K, B, C).
        labels: (B,) class indices.
        exit_weights: K weights, or None for the plain sum.
    """
    losses = exit_cross_entropies(logits, labels)
    if exit_weights is None:
        return losses.sum()
    return losses @ torch.as_tensor(exit_weights, dtype=losses.dtype, device=losses.device)
