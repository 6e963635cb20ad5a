"""One picture as the inputs of several networks, one below the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
from PIL import Image

from ranet.errors import UserError
from ranet.images.decoding import to_rgb
from ranet.images.preprocessing import Bytes, Doubles, Prepares, Preprocessing
from ranet.support.shapes import ImageSize, checked_image_size, sides


@dataclass(frozen=True)
class Canvas(Prepares):
    """The inputs of the members of a cascade as one image: the picture is decoded once, and prepared for each of them.

    Each input begins in column 0; narrow ones are filled up with zeros on the right.

    Attributes:
        parts: what prepares each input.

    Raises:
        UserError: if the parts have other channels, or are fewer than two.

    Example:
        >>> white = {"resize": 4, "mean": (0.5,), "std": (0.5,)}
        >>> canvas = Canvas((Preprocessing(2, **white), Preprocessing(4, **white)))
        >>> canvas.image_size, canvas.rows
        ((6, 4), (0, 2))
        >>> canvas(Image.new("L", (8, 8), "white"))[0, 1:3].tolist()
        [[1.0, 1.0, -1.0, -1.0], [1.0, 1.0, 1.0, 1.0]]
    """

    parts: tuple[Preprocessing, ...]

    def __post_init__(self) -> None:
        if len(self.parts) < 2 or len({part.channels for part in self.parts}) > 1:
            raise UserError("A canvas has two or more parts with the same number of channels.")

    @property
    def image_size(self) -> ImageSize:  # type: ignore[override]
        """Height and width of the canvas."""
        heights, widths = zip(*(sides(part.image_size) for part in self.parts), strict=True)
        return checked_image_size((sum(heights), max(widths)))

    @property
    def resize(self) -> ImageSize:  # type: ignore[override]
        """What the picture covers before the crop of the largest part."""
        return max((part.resize for part in self.parts), key=sides)

    @property
    def rows(self) -> tuple[int, ...]:
        """The first row of each part."""
        heights = [sides(part.image_size)[0] for part in self.parts]
        return (0, *accumulate(heights[:-1]))

    @property
    def statistics(self) -> tuple[Doubles, Doubles]:
        """Mean and standard deviation of each channel and row, (C, H, 1)."""
        heights = [sides(part.image_size)[0] for part in self.parts]
        means, stds = zip(*(part.statistics for part in self.parts), strict=True)
        mean, std = (
            np.concatenate([np.repeat(value, height, axis=1) for value, height in zip(each, heights, strict=True)], 1)
            for each in (means, stds)
        )
        return mean, std

    def pixels(self, image: Image.Image) -> Bytes:
        """Return the pixels of all inputs before normalisation: uint8 (C, H, W)."""
        image = to_rgb(image)
        width = sides(self.image_size)[1]
        inputs = [part.pixels(image) for part in self.parts]
        return np.concatenate([np.pad(each, ((0, 0), (0, 0), (0, width - each.shape[2]))) for each in inputs], axis=1)

    def to_dict(self) -> dict[str, Any]:
        """Return what each part's gives."""
        return {"parts": [part.to_dict() for part in self.parts]}


def prepares_from_dict(values: Mapping[str, Any]) -> Prepares:
    """Return what `Prepares.to_dict` gave.

    Raises:
        UserError: as `Preprocessing.from_dict`.
    """
    if isinstance(values, Mapping) and [*values] == ["parts"] and isinstance(values["parts"], Sequence):
        return Canvas(tuple(map(Preprocessing.from_dict, values["parts"])))
    return Preprocessing.from_dict(values)


def on_one_canvas(members: Sequence[Prepares]) -> tuple[Prepares, tuple[int, ...]]:
    """Return what prepares the inputs of several networks, and the first row of each; equal inputs are one.

    Raises:
        UserError: if one of several inputs is a canvas already.

    Example:
        >>> one, other = (Preprocessing(size, 4, (0.5,), (0.5,)) for size in (2, 4))
        >>> on_one_canvas([one, other, one])[1], on_one_canvas([one, one])[0] == one
        ((0, 2, 0), True)
    """
    parts = tuple(dict.fromkeys(members))
    if len(parts) == 1:
        return parts[0], (0,) * len(members)
    plain = tuple(part for part in parts if isinstance(part, Preprocessing))
    if len(plain) < len(parts):
        raise UserError("A cascade with a canvas of its own goes with members that read this canvas alone.")
    canvas = Canvas(plain)
    return canvas, tuple(canvas.rows[parts.index(each)] for each in members)
