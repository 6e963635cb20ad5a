"""A golden picture in an exported folder, with the network's input for it and the answers of all exits.

Use it to check your own code that serves the folder.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import PIL
from PIL import Image

from ranet.errors import UserError
from ranet.images.decoding import ImageError, read_image
from ranet.images.preprocessing import Bytes, Floats, Prepares
from ranet.support.shapes import ImageSize, sides

log = logging.getLogger(__name__)

PICTURE, ARRAYS = "golden.png", "golden.npz"


def write_golden(folder: Path, preprocessing: Prepares, logits_of: Callable[[Floats], Floats]) -> dict[str, str]:
    """Write the picture and its arrays; ``logits_of`` maps images (B, C, H, W) to logits (K, B, C).

    Returns:
        The names of the files: "picture", an 8-bit PNG in RGB or grey, and "arrays", a NumPy archive with
        "input", float32 (C, H, W), and "logits", float32 (K, C).
    """
    pixels = golden_pixels(preprocessing.resize)
    picture = Image.fromarray(pixels if preprocessing.mode == "RGB" else pixels[..., 0])
    picture.save(folder / PICTURE, optimize=True)
    seen = preprocessing(picture)
    np.savez(folder / ARRAYS, input=seen, logits=logits_of(seen[None])[:, 0])
    return {"picture": PICTURE, "arrays": ARRAYS}


def golden_pixels(resize: ImageSize) -> Bytes:
    """Return the picture, uint8 (H, W, 3), with gradients and noise, a third larger than ``resize`` and wider."""
    height, width = (side + side // 3 + 1 for side in sides(resize))
    width += width // 4 + 1
    y, x = np.mgrid[:height, :width]
    gradients = (x * 255 // (width - 1), y * 255 // (height - 1), (x + y) * 255 // (width + height - 2))
    noise = [(x * x * 7 + y * y * 13 + x * y * 5 + x * channel) % 64 - 32 for channel in (3, 8, 19)]
    return np.clip(np.stack(gradients, 2) + np.stack(noise, 2), 0, 255).astype(np.uint8)


def check_golden(folder: Path, golden: Mapping[str, str], preprocessing: Prepares) -> float:
    """Log a warning if the picture gives another input here than in the export; return the largest difference.

    Raises:
        UserError: if a file is missing or damaged.
    """
    picture, arrays = (folder / golden[name] for name in ("picture", "arrays"))
    try:
        found = preprocessing(read_image(picture))
        with np.load(arrays, allow_pickle=False) as archive:
            difference = float(np.abs(found - archive["input"]).max())
    except (ImageError, OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error) as error:
        raise UserError(
            f"{str(picture)!r} or {arrays.name} beside it is missing or damaged: copy the whole folder, or export the "
            "network again with ranet export."
        ) from error
    if difference > 0:
        log.warning(
            "%s becomes another input here, by up to %.2g: Pillow %s decodes or resizes images otherwise than the one "
            "that exported it, so answers may differ.",
            *(picture, difference, PIL.__version__),
        )
    return difference
