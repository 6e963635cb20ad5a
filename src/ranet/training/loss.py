"""The loss of a multi-exit network: a weighted sum of the exits' cross-entropies."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def exit_cross_entropies(
    logits: Tensor, labels: Tensor, label_smoothing: float = 0.0, image_weights: Tensor | None = None
) -> Tensor:
    """Return the mean cross-entropy of each exit, in nats, computed in float32 or in a higher precision of the logits.

    Args:
        logits: (K, B, C).
        labels: class indices (B,), or probabilities (B, C).
        label_smoothing: share of each label that is spread evenly over all classes (Szegedy et al., CVPR 2016).
        image_weights: (K, B) weights of the images at each exit, or None for 1.

    Returns:
        (K,) losses.

    Example:
        >>> exit_cross_entropies(torch.zeros(3, 2, 10), torch.tensor([0, 9]))  # ln 10
        tensor([2.3026, 2.3026, 2.3026])
    """
    exits, batch, classes = logits.shape
    targets = labels.repeat(exits, *[1] * (labels.ndim - 1))
    losses = F.cross_entropy(
        at_least_float32(logits).reshape(-1, classes), targets, reduction="none", label_smoothing=label_smoothing
    )
    return mean_of_images(losses.view(exits, batch), image_weights)


def mean_of_images(values: Tensor, weights: Tensor | None) -> Tensor:
    """Return the means (K,) of values (K, B), which are first multiplied by weights (K, B) if there are any."""
    return (values if weights is None else values * weights).mean(dim=1)


def at_least_float32(values: Tensor) -> Tensor:
    """Return the values in float32, or unchanged if their precision is higher."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def weighted_sum(losses: Tensor, exit_weights: Sequence[float] | None) -> Tensor:
    """Return the sum over exits of weight * loss, for losses (K,) and K weights; None sets all weights to 1."""
    if exit_weights is None:
        return losses.sum()
    return losses @ torch.as_tensor(exit_weights, dtype=losses.dtype, device=losses.device)


def multi_exit_loss(
    logits: Tensor,
    labels: Tensor,
    exit_weights: Sequence[float] | None = None,
    label_smoothing: float = 0.0,
    image_weights: Tensor | None = None,
) -> Tensor:
    """Return the sum over exits of weight * cross-entropy; all weights are 1 in the papers (MSDNet, section 4).

    Args:
        logits: (K, B, C).
        labels: class indices (B,), or probabilities (B, C).
        exit_weights: K weights, or None for the plain sum.
        label_smoothing: see ``exit_cross_entropies``.
        image_weights: likewise.
    """
    return weighted_sum(exit_cross_entropies(logits, labels, label_smoothing, image_weights), exit_weights)
