"""Weights of images that grow with the chance that an image reaches an exit."""

from __future__ import annotations

import torch
from torch import Tensor

from ranet.training.loss import at_least_float32


def survivor_weights(logits: Tensor) -> Tensor:
    """Return for each exit the weight of each image: the chance that it gets there, divided by the mean of all images.

    An image leaves at the first exit whose confidence c (the largest probability) reaches a threshold. If one threshold
    for all exits is drawn evenly from 0 to 1, an image reaches exit k with probability ``1 - max_{j < k} c_j``. So a
    head learns most from the images that it will answer. The weights of each exit have mean 1 and get no gradient.

    Args:
        logits: (K, B, C).

    Returns:
        (K, B) weights; 1 at the first exit, which all images reach.

    Example:
        >>> logits = torch.tensor([[[0.9, 0.1], [0.6, 0.4]], [[0.5, 0.5], [0.5, 0.5]]]).log()
        >>> survivor_weights(logits)
        tensor([[1.0000, 1.0000],
                [0.4000, 1.6000]])
    """
    confidence = at_least_float32(logits.detach()).softmax(dim=-1).amax(dim=-1)
    chance = torch.ones_like(confidence)
    chance[1:] = 1 - confidence[:-1].cummax(dim=0).values
    # Where all images are sure, the division is by the smallest number, and all weights are 0.
    return chance / chance.mean(dim=1, keepdim=True).clamp_min(torch.finfo(chance.dtype).tiny)
