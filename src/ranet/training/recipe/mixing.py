"""Mixup and CutMix: training on mixtures of two images and of their labels."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms import v2

from ranet.errors import UserError


class BatchMixing:
    """A function that mixes each image with its neighbour in the batch, by torchvision's ``MixUp`` and ``CutMix``.

    Mixup (Zhang et al., ICLR 2018) adds two images: ``share * image + (1 - share) * neighbour``. CutMix (Yun et al.,
    ICCV 2019) puts a rectangle of the neighbour into the image, and ``share`` is the remaining area. The labels are
    mixed by the same share, which is drawn from Beta(alpha, alpha) once for the whole batch, as in both papers. The
    neighbour of the first image is the last one. If both are on, each mixed batch gets one of them, with equal
    probability.

    All draws come from PyTorch's global generator on the CPU, which ``RandomState`` stores in checkpoints. So they do
    not depend on the device of the batch or wait for it. In a distributed run, all processes have the same seed and
    draw the same numbers.

    Args:
        num_classes: number of classes C.
        mixup: alpha of mixup; 0 is off. At 1 all shares are equally likely; near 0 one image dominates.
        cutmix: alpha of CutMix; 0 is off.
        probability: share of the batches that are mixed, from 0 to 1.

    Raises:
        UserError: if a value is out of its range.

    Example:
        >>> import torch
        >>> mixing = BatchMixing(num_classes=3, mixup=0.0, cutmix=0.0, probability=1.0)
        >>> mixing(torch.zeros(2, 3, 4, 4), torch.tensor([0, 2]))[1]
        tensor([[1., 0., 0.],
                [0., 0., 1.]])
    """

    def __init__(self, num_classes: int, mixup: float, cutmix: float, probability: float) -> None:
        for option, alpha in (("mixup", mixup), ("cutmix", cutmix)):
            if not _is_number(alpha) or not 0 <= alpha < math.inf:
                raise UserError(f"optim.augmentation.{option}={alpha} must be 0 (off) or a positive number.")
        if not _is_number(probability) or not 0 <= probability <= 1:
            raise UserError(f"optim.augmentation.mixing_probability={probability} must lie from 0 to 1.")
        self.num_classes = num_classes
        choices: list[v2.Transform] = []
        if mixup:
            choices.append(v2.MixUp(alpha=float(mixup), num_classes=num_classes))
        if cutmix:
            choices.append(v2.CutMix(alpha=float(cutmix), num_classes=num_classes))
        self._mix = v2.RandomApply([v2.RandomChoice(choices)], p=probability) if choices and probability else None

    @property
    def enabled(self) -> bool:
        """Whether any batch is ever mixed."""
        return self._mix is not None

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Mix a batch.

        Args:
            images: floating point (B, 3, H, W); not changed.
            labels: int64 (B,).

        Returns:
            Images (B, 3, H, W), and the probabilities of the classes, float32 (B, C). They are one-hot for a batch that
            is not mixed, so that the shapes are always the same.
        """
        probabilities = F.one_hot(labels, self.num_classes).float()
        if self._mix is None:
            return images, probabilities
        return self._mix(images, probabilities)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
