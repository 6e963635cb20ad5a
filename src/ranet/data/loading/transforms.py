"""Transforms of images for the network: geometry on uint8, then normalisation.

The random geometry of single images is torchvision's; :func:`crop_and_flip` is the same geometry for a batch of small
images on their device. Normalisation comes last, on the device, in all loaders, so that workers send only bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms import v2

from ranet.data.sets.catalogue import Facts
from ranet.images.canvas import Canvas
from ranet.images.decoding import DECODING
from ranet.images.preprocessing import Prepares
from ranet.support.shapes import sides

#: From a PIL image or a uint8 tensor (C, h, w) to uint8 (C, H, W).
Geometry = Callable[[Image.Image | Tensor], Tensor]


def training_geometry(facts: Facts) -> Geometry:
    """Return the published random augmentation.

    Where images are cut out of larger ones, a part of 8 % to 100 % of the area is stretched by up to 4/3 in either
    direction.
    """
    height, width = sides(facts.image_size)
    steps: list[v2.Transform] = [v2.ToImage()]
    if facts.crop_padding is None:
        ratio = (3 / 4 * (width / height), 4 / 3 * (width / height))
        # The crop comes before the conversion, so that only the cropped part is converted.
        steps.insert(0, v2.RandomResizedCrop((height, width), ratio=ratio, antialias=True))
        if facts.channels == 1:
            steps.insert(0, v2.Grayscale())  # of a PIL image as in `Preprocessing`
    else:
        steps.append(v2.RandomCrop((height, width), padding=facts.crop_padding))
    if facts.flip:
        steps.append(v2.RandomHorizontalFlip())
    return v2.Compose([*steps, v2.ToPureTensor()])


@dataclass(frozen=True)
class EvaluationGeometry:
    """The published evaluation geometry of image files; images in memory pass as stored."""

    preprocessing: Prepares

    def __call__(self, image: Image.Image | Tensor) -> Tensor:
        """Return an image as the network sees it before normalisation."""
        if isinstance(image, Tensor):
            return stored(image, self.preprocessing)
        return torch.from_numpy(np.array(self.preprocessing.pixels(image)))


def stored(images: Tensor, preprocessing: Prepares) -> Tensor:
    """Return images (..., H, W) as they are stored; on a canvas once for each of its parts, one below the other."""
    return torch.cat([images] * len(preprocessing.parts), -2) if isinstance(preprocessing, Canvas) else images


def describe_evaluation(facts: Facts) -> str:
    """Return a one-line description of the evaluation transform that changes with the transform."""
    if facts.prepares is not None:
        return str(facts.prepares.to_dict())
    seen = "as stored"
    if not facts.in_memory:
        how = facts.preprocessing
        seen = f"{DECODING}; resize {how.resize} bilinear with antialiasing, center crop {how.image_size}"
    return f"{seen} mean {facts.mean} std {facts.std}"


class Normalise:
    """``(images / 255 - mean) / std`` channel by channel: uint8 (B, C, H, W) to float32 (B, C, H, W).

    Args:
        mean, std: mean and standard deviation of each channel (C,), of pixel values in [0, 1]; or what broadcasts with
            (C, H, W).
        device: where the images will be.

    Example:
        >>> normalise = Normalise(mean=(0.5, 0.5, 0.5), std=(0.5, 0.25, 0.125))
        >>> normalise(torch.full((1, 3, 1, 1), 255, dtype=torch.uint8)).flatten()
        tensor([1., 2., 4.])
    """

    def __init__(self, mean: npt.ArrayLike, std: npt.ArrayLike, device: torch.device | None = None) -> None:
        # Computed once, in double precision, so that a batch costs one product and one difference.
        m, s = (torch.from_numpy(np.array(value, dtype=np.float64)) for value in (mean, std))
        m, s = (value.view(-1, 1, 1) if value.ndim == 1 else value for value in (m, s))
        self.scale = (1 / (255 * s)).to(device, torch.float32)
        self.shift = (m / s).to(device, torch.float32)

    def __call__(self, images: Tensor) -> Tensor:
        """Normalise a batch."""
        return images.to(torch.float32).mul_(self.scale).sub_(self.shift)


def crop_and_flip(images: Tensor, top: Tensor, left: Tensor, flip: Tensor, padding: int) -> Tensor:
    """Pad a batch with zeros on each side, cut a window of the original size out of each image, and mirror some.

    The images are uint8 (B, C, H, W); top and left, int64 (B,) from 0 to 2 * padding, are the first row and column of
    each window in the padded image; windows with flip, bool (B,), are mirrored left to right.

    Returns:
        uint8 (B, C, H, W): what torchvision's ``RandomCrop((H, W), padding)`` and ``RandomHorizontalFlip`` give for
        these draws, bit by bit.
    """
    batch, channels, height, width = images.shape
    padded = F.pad(images, [padding] * 4)
    row, column = (torch.arange(length, device=images.device) for length in (height, width))
    # The position of each pixel of the window in its padded image, so that crop and mirror are a single gather.
    y = row + top.unsqueeze(1)
    x = torch.where(flip.unsqueeze(1), width - 1 - column, column) + left.unsqueeze(1)
    position = (y.unsqueeze(2) * padded.shape[-1] + x.unsqueeze(1)).view(batch, 1, -1).expand(-1, channels, -1)
    return padded.flatten(2).gather(2, position).view_as(images)
