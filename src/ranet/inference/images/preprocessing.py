"""How an image becomes what a network reads: resize, central square, normalisation, without PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ranet.errors import UserError
from ranet.images.decoding import DECODING, to_rgb

RGB = tuple[float, float, float]
Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
#: What is the same for all data sets.
_ALWAYS = {"decoding": DECODING, "interpolation": "bilinear", "antialias": True, "crop": "center"}


@dataclass(frozen=True)
class Preprocessing:
    """The evaluation transform of a data set, for images of any size, as numbers that travel with an exported network.

    The short side is resized to ``resize`` pixels (bilinear, with antialiasing; a side that has this length stays as
    it is), the central square of ``image_size`` pixels is cut out, and each channel becomes
    ``(pixel / 255 - mean) / std``. Data sets that are evaluated as stored (CIFAR, digits) have ``resize`` equal to
    ``image_size``: their own images pass bit by bit.

    Attributes:
        image_size: the side in pixels of what the network reads.
        resize: the short side in pixels before the crop, at least ``image_size``.
        mean: the mean of each channel, of pixel values in [0, 1].
        std: the standard deviation of each channel, likewise.

    Raises:
        UserError: if these are not such numbers.

    Example:
        >>> preprocessing = Preprocessing(image_size=2, resize=2, mean=(0.5, 0.5, 0.5), std=(0.5, 0.25, 0.125))
        >>> preprocessing(Image.new("RGB", (8, 4), "white"))[:, 0, 0].tolist()
        [1.0, 2.0, 4.0]
    """

    image_size: int
    resize: int
    mean: RGB
    std: RGB

    def __post_init__(self) -> None:
        for name in ("image_size", "resize"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise UserError(f"The {name} of a preprocessing must be a whole number of pixels, not {value!r}.")
        if self.resize < self.image_size:
            raise UserError(
                f"The short side of a preprocessing is resized to {self.resize} pixels, of which {self.image_size} "
                "cannot be cut out."
            )
        for name in ("mean", "std"):
            value = getattr(self, name)
            if not isinstance(value, list | tuple) or len(value) != 3 or not all(map(_is_finite, value)):
                raise UserError(f"The {name} of a preprocessing must be three finite numbers, not {value!r}.")
            object.__setattr__(self, name, tuple(map(float, value)))
        # A smaller one, such as a mistyped 1e-300, has no finite float32 inverse.
        if min(self.std) < 1e-6:
            raise UserError(f"The std of a preprocessing must be three positive numbers, not {self.std}.")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Preprocessing:
        """What `to_dict` gave.

        Raises:
            UserError: if something is missing, unknown, no such number, or not what this version of ranet does.
        """
        names = {*cls.__dataclass_fields__, *_ALWAYS}
        if not isinstance(values, Mapping) or set(values) != names:
            raise UserError(f"A preprocessing must say its {', '.join(sorted(names))} and nothing else.")
        for name, value in _ALWAYS.items():
            if values[name] != value:
                raise UserError(
                    f"The {name} of the preprocessing is {values[name]!r} and this version of ranet has {value!r}: use "
                    "the version that wrote it."
                )
        return cls(**{name: values[name] for name in cls.__dataclass_fields__})

    def to_dict(self) -> dict[str, Any]:
        """Everything that makes the network's input of an image file, as plain values for JSON."""
        own = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        return {**_ALWAYS, **own}

    def resized(self, width: int, height: int) -> tuple[int, int]:
        """Width and height of an image of this size before the crop.

        Example:
            >>> Preprocessing(224, 256, (0, 0, 0), (1, 1, 1)).resized(500, 375)
            (341, 256)
        """
        if width <= height:
            return self.resize, int(self.resize * height / width)
        return int(self.resize * width / height), self.resize

    def square(self, image: Image.Image) -> Bytes:
        """The pixels that the network sees of an image in any mode, before normalisation: uint8 (3, S, S).

        Raises:
            ImageError: for an image that `ranet.images.decoding.to_rgb` refuses.
        """
        image = to_rgb(image)
        size = self.resized(*image.size)
        if size != image.size:
            image = image.resize(size, Image.Resampling.BILINEAR)
        # Halves are rounded to even, as torchvision does.
        left, top = (round((length - self.image_size) / 2) for length in size)
        image = image.crop((left, top, left + self.image_size, top + self.image_size))
        return np.asarray(image).transpose(2, 0, 1)

    def normalise(self, pixels: Bytes) -> Floats:
        """``(pixels / 255 - mean) / std`` channel by channel: uint8 (..., 3, S, S) to float32."""
        # In double precision here; the product and the difference in float32 are then those of the training.
        mean, std = (np.asarray(value, dtype=np.float64).reshape(3, 1, 1) for value in (self.mean, self.std))
        normalised: Floats = np.multiply(pixels, (1 / (255 * std)).astype(np.float32), dtype=np.float32)
        normalised -= (mean / std).astype(np.float32)
        return normalised

    def __call__(self, image: Image.Image) -> Floats:
        """What the network reads of an image in any mode: float32 (3, S, S), C-contiguous."""
        return self.normalise(np.ascontiguousarray(self.square(image)))


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")
