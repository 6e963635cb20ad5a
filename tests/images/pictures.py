"""Small pictures in every mode and format that files have."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ORIENTATION = 0x0112


def noise(width: int, height: int, seed: int = 0, channels: int = 3) -> np.ndarray:
    """uint8 (H, W, channels)."""
    return np.random.default_rng(seed).integers(256, size=(height, width, channels), dtype=np.uint8)


def exif(orientation: int) -> Image.Exif:
    data = Image.Exif()
    data[ORIENTATION] = orientation
    return data


def _rgb(width: int, height: int) -> Image.Image:
    return Image.fromarray(noise(width, height))


def _deep(width: int, height: int, kind: str = "<u2") -> Image.Image:
    return Image.fromarray(np.random.default_rng(1).integers(2**16, size=(height, width)).astype(kind))


#: How to make a picture of a mode for a width and height, the suffix of its file, and options to save it.
MODES: dict[str, tuple[Callable[[int, int], Image.Image], str, dict[str, Any]]] = {
    "1": (lambda w, h: _rgb(w, h).convert("1"), ".png", {}),
    "L": (lambda w, h: _rgb(w, h).convert("L"), ".png", {}),
    "L with a transparent value": (lambda w, h: _rgb(w, h).convert("L"), ".png", {"transparency": 99}),
    "LA": (lambda w, h: Image.fromarray(noise(w, h, channels=2)), ".png", {}),
    "P": (lambda w, h: _rgb(w, h).quantize(64), ".png", {}),
    "P with a transparent colour": (lambda w, h: _rgb(w, h).quantize(64), ".png", {"transparency": 3}),
    "P with alphas": (lambda w, h: _rgb(w, h).quantize(64), ".png", {"transparency": bytes(range(0, 256, 4))}),
    "P in a GIF": (lambda w, h: _rgb(w, h).quantize(64), ".gif", {"transparency": 3}),
    "RGB": (_rgb, ".png", {}),
    "RGB as JPEG": (_rgb, ".jpg", {"quality": 90}),
    "RGB as WebP": (_rgb, ".webp", {}),
    "RGB with a transparent colour": (_rgb, ".png", {"transparency": (1, 2, 3)}),
    "RGBA": (lambda w, h: Image.fromarray(noise(w, h, channels=4)), ".png", {}),
    "RGBA as WebP": (lambda w, h: Image.fromarray(noise(w, h, channels=4)), ".webp", {"lossless": True}),
    "I;16": (_deep, ".png", {}),
    "I;16 as TIFF": (_deep, ".tiff", {}),
    "I;16B as TIFF": (lambda w, h: _deep(w, h, ">u2"), ".tiff", {}),
    "I": (lambda w, h: _deep(w, h, "<i4"), ".pgm", {}),
    "CMYK": (lambda w, h: _rgb(w, h).convert("CMYK"), ".jpg", {}),
    "YCbCr": (lambda w, h: _rgb(w, h).convert("YCbCr"), ".tiff", {}),
    "LAB": (lambda w, h: _rgb(w, h).convert("LAB"), ".tiff", {}),
}
#: Suffixes of files that say how they are to be turned.
TURNABLE = (".png", ".jpg", ".webp", ".tiff")


def write_picture(folder: Path, mode: str, width: int, height: int, orientation: int = 1) -> Path:
    """Write a picture of noise."""
    make, suffix, options = MODES[mode]
    if orientation != 1 and suffix in TURNABLE:
        options = {**options, "exif": exif(orientation)}
    path = folder / f"picture{suffix}"
    make(width, height).save(path, **options)
    return path
