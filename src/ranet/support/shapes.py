"""Sizes of images and shapes of tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ranet.errors import UserError

#: The side of a square, or (height, width), in pixels.
ImageSize = int | tuple[int, int]


class TensorSpec(NamedTuple):
    """A tensor by its name and its shape without the batch."""

    name: str
    shape: tuple[int, ...]


def checked_image_size(value: Any, name: str = "image_size", least: int = 1) -> ImageSize:
    """Return an image size, one or two integers of at least ``least``; a square as one number. Else raise a UserError.

    Example:
        >>> checked_image_size([28, 40]), checked_image_size((32, 32))
        ((28, 40), 32)
    """
    both = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value, value]
    if len(both) != 2 or not all(type(side) is int and side >= least for side in both):
        raise UserError(f"{name}={value} must be an integer of at least {least}, or two of them: [height, width].")
    height, width = both
    return height if height == width else (height, width)


def sides(image_size: ImageSize) -> tuple[int, int]:
    """Return height and width."""
    return (image_size, image_size) if isinstance(image_size, int) else image_size


def image_shape(image_size: ImageSize, channels: int) -> tuple[int, int, int]:
    """Return the shape (C, H, W) of one image.

    Example:
        >>> image_shape(32, 3), image_shape((28, 40), 1)
        ((3, 32, 32), (1, 28, 40))
    """
    return channels, *sides(image_size)
