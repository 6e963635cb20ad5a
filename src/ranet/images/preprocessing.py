"""How an image becomes what a network reads: resize, central crop, normalisation, without PyTorch."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ranet.errors import UserError
from ranet.images.decoding import DECODING, to_rgb
from ranet.support.shapes import ImageSize, checked_image_size, image_shape, sides

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
# What is the same for all data sets.
_ALWAYS = {"decoding": DECODING, "antialias": True, "crop": "center"}
_RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


class Prepares(ABC):
    """What makes the input of a network of a picture.

    Attributes:
        image_size: of the input: the side of a square in pixels, or (height, width).
        resize: what a picture must cover, for the largest part of the input.
    """

    image_size: ImageSize
    resize: ImageSize

    @property
    @abstractmethod
    def statistics(self) -> tuple[Doubles, Doubles]:
        """Mean and standard deviation of each channel, for broadcasting with (C, H, W)."""

    @abstractmethod
    def pixels(self, image: Image.Image) -> Bytes:
        """Return the pixels that the network sees of an image in any mode, before normalisation: uint8 (C, H, W).

        Raises:
            ImageError: for an image that `ranet.images.decoding.to_rgb` refuses.
        """

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Return everything that makes the network's input of an image file, as plain values for JSON."""

    @property
    def channels(self) -> int:
        """The number of channels C."""
        return len(self.statistics[0])

    @property
    def mode(self) -> str:
        """Pillow's name of the pixels: "RGB", or "L" (grey) for one channel."""
        return "L" if self.channels == 1 else "RGB"

    def require_shape(self, shape: tuple[int, ...], owner: str, advice: str) -> None:
        """Raise a UserError unless the result has the shape (C, H, W) that a network reads."""
        own = image_shape(self.image_size, self.channels)
        if own != shape:
            raise UserError(f"{owner} prepares images of shape {own} for a network that reads {shape}: {advice}.")

    def normalise(self, pixels: Bytes) -> Floats:
        """Return ``(pixels / 255 - mean) / std`` channel by channel: uint8 (..., C, H, W) to float32."""
        # In double precision here; the product and the difference in float32 are then those of the training.
        mean, std = self.statistics
        normalised: Floats = np.multiply(pixels, (1 / (255 * std)).astype(np.float32), dtype=np.float32)
        normalised -= (mean / std).astype(np.float32)
        return normalised

    def __call__(self, image: Image.Image) -> Floats:
        """Return what the network reads of an image in any mode: float32 (C, H, W), C-contiguous."""
        return self.normalise(np.ascontiguousarray(self.pixels(image)))


@dataclass(frozen=True)
class Preprocessing(Prepares):
    """The evaluation transform of a data set, for images of any size and mode.

    An image is decoded to RGB; for one channel Pillow converts this to grey (mode "L"). It is resized to the smallest
    size that covers ``resize`` (with antialiasing), the central ``image_size`` is cut out, and each channel
    becomes ``(pixel / 255 - mean) / std``. Data sets that are evaluated as stored (CIFAR, digits) have ``resize`` equal
    to ``image_size``: their own images pass bit by bit.

    Attributes:
        image_size: what the network reads: the side of a square in pixels, or (height, width).
        resize: what the image covers before the crop, at least ``image_size``; of a square the short side.
        mean: the mean of each of the C channels (1 or 3), of pixel values in [0, 1].
        std: the standard deviation of each channel, likewise.
        interpolation: "bilinear" or "bicubic".

    Raises:
        UserError: if a value is not allowed.

    Example:
        >>> preprocessing = Preprocessing(image_size=2, resize=2, mean=(0.5, 0.5, 0.5), std=(0.5, 0.25, 0.125))
        >>> preprocessing(Image.new("RGB", (8, 4), "white"))[:, 0, 0].tolist()
        [1.0, 2.0, 4.0]
    """

    image_size: ImageSize
    resize: ImageSize
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        if self.interpolation not in [*_RESAMPLING]:
            raise UserError(
                f"The preprocessing's interpolation={self.interpolation} must be {' or '.join(_RESAMPLING)}."
            )
        checked = {
            **{
                name: checked_image_size(getattr(self, name), f"The preprocessing's {name}")
                for name in ("image_size", "resize")
            },
            "mean": per_channel(self.mean, "The preprocessing's mean", (1, 3)),
            "std": per_channel(self.std, "The preprocessing's std", (len(self.mean),), positive=True),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)
        if any(covered < side for covered, side in zip(sides(self.resize), sides(self.image_size), strict=True)):
            raise UserError(
                f"The preprocessing's resize={self.resize} must be at least its image_size={self.image_size}, "
                "which is cut out of it."
            )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Preprocessing:
        """Return what `to_dict` gave; also of earlier versions, whose images were all RGB.

        Raises:
            UserError: if an entry is missing, unknown or not allowed, or is not what this version of ranet does.
        """
        own = cls.__dataclass_fields__
        names = {*own, *_ALWAYS, "mode"}
        if not isinstance(values, Mapping) or {"mode", *values} != names:
            raise UserError(f"A preprocessing must say its {', '.join(sorted(names))} and nothing else.")
        preprocessing = cls(**{name: values[name] for name in own})
        for name, value in {**_ALWAYS, "mode": preprocessing.mode}.items():
            if values.get(name, "RGB") != value:
                raise UserError(
                    f"The {name} of the preprocessing is {values.get(name)!r} and this version of ranet has {value!r}: "
                    "use the version that wrote it."
                )
        return preprocessing

    def to_dict(self) -> dict[str, Any]:
        """Return everything that makes the network's input of an image file, as plain values for JSON."""
        own = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        return {**_ALWAYS, "mode": self.mode, **own}

    @property
    def statistics(self) -> tuple[Doubles, Doubles]:
        """Mean and standard deviation of each channel, (C, 1, 1)."""
        mean, std = (np.asarray(value, dtype=np.float64).reshape(-1, 1, 1) for value in (self.mean, self.std))
        return mean, std

    def resized(self, width: int, height: int) -> tuple[int, int]:
        """Return width and height of an image of this size before the crop.

        Example:
            >>> Preprocessing(224, 256, (0, 0, 0), (1, 1, 1)).resized(500, 375)
            (341, 256)
            >>> Preprocessing((28, 40), (32, 46), (0,), (1,)).resized(500, 375)
            (46, 34)
        """
        rows, columns = sides(self.resize)
        if columns * height >= rows * width:
            return columns, int(columns * height / width)
        return int(rows * width / height), rows

    def pixels(self, image: Image.Image) -> Bytes:
        """Return the pixels that the network sees of an image in any mode, before normalisation: uint8 (C, H, W)."""
        image = to_rgb(image)
        if self.mode != "RGB":
            image = image.convert(self.mode)
        size = self.resized(*image.size)
        if size != image.size:
            image = image.resize(size, _RESAMPLING[self.interpolation])
        height, width = sides(self.image_size)
        # Halves are rounded to even, as torchvision does.
        left, top = (round((length - side) / 2) for length, side in zip(size, (width, height), strict=True))
        image = image.crop((left, top, left + width, top + height))
        return np.asarray(image).reshape(height, width, self.channels).transpose(2, 0, 1)


def per_channel(values: Any, name: str, counts: Sequence[int], positive: bool = False) -> tuple[float, ...]:
    """Return the numbers of all channels.

    Args:
        values: to check.
        name: of the values, for the message.
        counts: allowed numbers of channels.
        positive: whether each must be at least 1e-6; a smaller std, such as a mistyped 1e-300, has no finite inverse.

    Raises:
        UserError: if there are not as many finite numbers.
    """

    def fits(value: Any) -> bool:
        return type(value) in (int, float) and math.isfinite(value) and (value >= 1e-6 or not positive)

    listed = isinstance(values, Sequence) and not isinstance(values, str)
    if not listed or len(values) not in counts or not all(map(fits, values)):
        kind, allowed = "positive" if positive else "finite", " or ".join(map(str, counts))
        raise UserError(f"{name}={values} must be a list of {kind} numbers, one for each channel ({allowed}).")
    return tuple(map(float, values))
