"""Inspection of one image before training."""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ranet.images.decoding import ImageError, check_size, opened, orientation_of, to_rgb

_ORDINARY = ("1", "L", "LA", "La", "RGB", "RGBA", "RGBX", "RGBa")
_SIDE, _WAVES = 32, 8
_FLAT = 2.0  # standard deviation, in grey levels of 255, below which an image counts as one colour
# The first rows of the discrete cosine transform of 32 values.
_COSINES = np.cos(np.pi / (2 * _SIDE) * np.outer(np.arange(_WAVES), 2 * np.arange(_SIDE) + 1))


class Inspection(NamedTuple):
    """The properties of one image.

    Attributes:
        refused: reason why the image cannot be used, as `ImageError.what`; None if it can. The other attributes are set
            only then.
        width: width in pixels, as stored.
        height: height in pixels, as stored.
        mode: rare pixel format: "16-bit", "palette", "CMYK" or Pillow's name of another mode; empty for 8-bit grey and
            RGB.
        orientation: EXIF orientation, 1 (upright) to 8.
        transparent: whether pixels may be transparent.
        content: digest of the file, or of the pixels of an image in memory.
        looks: perceptual hash of 64 bits; None for an image of one colour.
    """

    refused: str | None = None
    width: int = 0
    height: int = 0
    mode: str = ""
    orientation: int = 1
    transparent: bool = False
    content: bytes = b""
    looks: int | None = None


def inspect_file(path: Path) -> Inspection:
    """Read a whole image file and return its properties."""
    try:
        with opened(path) as image:
            check_size(image.size)
            (width, height), mode = image.size, _mode(image)
            orientation, transparent = orientation_of(image), image.has_transparency_data
            image.draft(None, (2 * _SIDE, 2 * _SIDE))  # for a JPEG, decode only as many pixels as the hash needs
            looks = perceptual_hash(to_rgb(image))
        content = digest(path.read_bytes())
    except ImageError as error:
        return Inspection(error.what)
    return Inspection(None, width, height, mode, orientation, transparent, content, looks)


def inspect_pixels(pixels: NDArray[np.uint8]) -> Inspection:
    """Return the properties of an image in memory, uint8 (H, W, 3), or (H, W) in grey."""
    height, width = pixels.shape[:2]
    looks = perceptual_hash(Image.fromarray(pixels))
    return Inspection(width=width, height=height, content=digest(pixels.tobytes()), looks=looks)


def digest(content: bytes) -> bytes:
    """Return a digest of 16 bytes."""
    return blake2b(content, digest_size=16).digest()


def perceptual_hash(image: Image.Image) -> int | None:
    """Return a hash of 64 bits that is nearly the same for resized or recompressed copies of an image (pHash).

    Each bit is whether one of the 64 lowest coefficients of the discrete cosine transform of the image, in grey and
    shrunk to 32 x 32 pixels, is above the median.

    Returns:
        The bits; None for an image of one colour, whose coefficients are noise.
    """
    grey = np.asarray(image.convert("L").resize((_SIDE, _SIDE), Image.Resampling.BILINEAR), dtype=np.float64)
    if grey.std() < _FLAT:
        return None
    waves = (_COSINES @ grey @ _COSINES.T).ravel()
    bits = waves > np.median(waves[1:])
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def _mode(image: Image.Image) -> str:
    """Return the rare pixel format of an opened image; empty for a common one."""
    # Pillow reads 16-bit colour as 8-bit RGB; only its list of tiles, before reading, shows the original.
    if image.mode.startswith("I") or any(";16" in str(tile[3]) for tile in getattr(image, "tile", ())):
        return "16-bit"
    if image.mode in ("P", "PA"):
        return "palette"
    return "" if image.mode in _ORDINARY else image.mode
