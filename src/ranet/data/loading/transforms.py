"""Transforms of images for the network: geometry on uint8, then normalisation.

The geometry of single images is torchvision's; :func:`crop_and_flip` is the same geometry for a batch of small images
on their device. Normalisation comes last, on the device, in all loaders, so that workers send only bytes.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms import v2

from ranet.data.sets.catalogue import RGB, Facts
from ranet.images.decoding import DECODING


def training_geometry(facts: Facts, image_size: int) -> v2.Transform:
    """The published random augmentation, from a PIL image or uint8 tensor to uint8 (3, image_size, image_size)."""
    steps: list[v2.Transform] = [v2.ToImage()]
    if facts.crop_padding is None:
        # The crop comes before the conversion, so that only the cropped part is converted.
        steps.insert(0, v2.RandomResizedCrop(image_size, antialias=True))
    else:
        steps.append(v2.RandomCrop(image_size, padding=facts.crop_padding))
    if facts.flip:
        steps.append(v2.RandomHorizontalFlip())
    return v2.Compose([*steps, v2.ToPureTensor()])


def resized(image_size: int) -> int:
    """Return the short side before the central crop: the papers evaluate ImageNet on the central 224 pixels of 256.

    Example:
        >>> resized(224), resized(128)
        (256, 146)
    """
    return round(image_size * 256 / 224)


def evaluation_geometry(facts: Facts, image_size: int) -> v2.Transform:
    """The published evaluation geometry, from a PIL image or uint8 tensor to uint8 (3, image_size, image_size)."""
    steps: list[v2.Transform] = [v2.ToImage(), v2.ToPureTensor()]
    if facts.crop_padding is None:
        steps = [v2.Resize(resized(image_size), antialias=True), v2.CenterCrop(image_size), *steps]
    return v2.Compose(steps)


def any_size_geometry(facts: Facts, image_size: int) -> v2.Transform:
    """Return the evaluation geometry for images of any size, also where the data set's own are all of one size.

    Such sets are evaluated as stored. An image of another size then has its short side resized to ``image_size`` and
    the central square cut out; one of the set's own size stays as it is, bit by bit.
    """
    steps: list[v2.Transform] = [evaluation_geometry(facts, image_size)]
    if facts.crop_padding is not None:
        steps = [v2.Resize(image_size, antialias=True), v2.CenterCrop(image_size), *steps]
    return v2.Compose(steps)


def describe_evaluation(facts: Facts, image_size: int) -> str:
    """Return a one-line description of the evaluation transform that changes with the transform."""
    seen = "as stored"
    if facts.crop_padding is None:
        seen = f"{DECODING}; resize {resized(image_size)} bilinear with antialiasing, center crop {image_size}"
    return f"{seen} mean {facts.mean} std {facts.std}"


class Normalise:
    """``(images / 255 - mean) / std`` channel by channel: uint8 (B, 3, H, W) to float32 (B, 3, H, W).

    Args:
        mean: the mean of each channel, of pixel values in [0, 1].
        std: the standard deviation of each channel, likewise.
        device: where the images will be.

    Example:
        >>> normalise = Normalise(mean=(0.5, 0.5, 0.5), std=(0.5, 0.25, 0.125))
        >>> normalise(torch.full((1, 3, 1, 1), 255, dtype=torch.uint8)).flatten()
        tensor([1., 2., 4.])
    """

    def __init__(self, mean: RGB, std: RGB, device: torch.device | None = None) -> None:
        # Computed once, in double precision, so that a batch costs one product and one difference.
        m, s = (torch.tensor(value, dtype=torch.float64).view(3, 1, 1) for value in (mean, std))
        self.scale = (1 / (255 * s)).to(device, torch.float32)
        self.shift = (m / s).to(device, torch.float32)

    def __call__(self, images: Tensor) -> Tensor:
        """Normalise a batch."""
        return images.to(torch.float32).mul_(self.scale).sub_(self.shift)


def crop_and_flip(images: Tensor, top: Tensor, left: Tensor, flip: Tensor, padding: int) -> Tensor:
    """Pad a batch with zeros, cut a window of the original size out of each image, and mirror some.

    Args:
        images: uint8 (B, C, H, W).
        top: int64 (B,), the first row of each window in the padded image, 0 to 2 * padding.
        left: int64 (B,), the first column, likewise.
        flip: bool (B,), which windows are mirrored left to right.
        padding: the padding in pixels on each side.

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
