"""Decoding of image files to 8-bit RGB, the same for training, evaluation, calibration, drift and prediction."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from stat import S_ISREG

import numpy as np
import PIL
from PIL import Image, features

from ranet.errors import UserError

#: A one-line description of `read_image`. It is part of the fingerprints of data sets and the manifests of exports:
#: raise the number after a change that changes pixels.
DECODING = (
    "ranet-1: first frame; EXIF orientation applied; transparency composited on white; 16-bit grey v becomes "
    "round(v * 255 / 65535), 16-bit colour its high byte; 8-bit RGB as stored, other modes as Pillow converts them to "
    "RGB; color profiles ignored"
)
#: Formats that are read, whatever the name of the file. For others, such as PostScript, Pillow runs another program.
FORMATS = ("JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP", "GIF", "AVIF", "JPEG2000")
#: An image of more pixels is refused before it is decoded.
MOST_PIXELS = 2**26
#: An image whose sides have a larger ratio is refused too: resizing would make it huge.
MOST_ELONGATED = 100

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ORIENTATION = 0x0112
_TIFF_PHOTOMETRIC, _TIFF_BITS, _WHITE_IS_ZERO = 262, 258, 0
# Formats that Pillow does not read, or not in every installation: name, first bytes, Pillow's name of the feature.
_OTHER_FORMATS = (
    ("AVIF", rb".{4}ftypavi[fs]", "avif"),
    ("WebP", rb"RIFF.{4}WEBP", "webp"),
    ("HEIC", rb".{4}ftyp(hei[cmsx]|hev[cmsx]|mif1|msf1)", None),
    ("JPEG XL", rb"\xff\x0a|\x00\x00\x00\x0cJXL ", None),
    ("Photoshop", rb"8BPS", None),
    ("PostScript", rb"%!PS|\xc5\xd0\xd3\xc6", None),
    ("PDF", rb"%PDF", None),
    ("SVG", rb"\s*<(svg|\?xml)", None),
)


class ImageError(UserError):
    """The error for an image that cannot be read.

    Args:
        what: the reason, as the rest of a sentence that begins with the name of the image.
    """

    def __init__(self, what: str) -> None:
        super().__init__(f"The image {what}.")
        self.what = what


def read_image(path: str | Path) -> Image.Image:
    """Read an image file as 8-bit RGB; the content, not the name, determines the format.

    Raises:
        ImageError: if the file is not an image of a known format, is damaged or empty, or is too large.
    """
    with opened(path) as image:
        return to_rgb(image)


@contextmanager
def opened(path: str | Path) -> Iterator[Image.Image]:
    """Open an image file, so that the block can decode its pixels.

    Raises:
        ImageError: as for `read_image`, also for errors within the block.
    """
    try:
        if not S_ISREG(Path(path).stat().st_mode):  # opening a pipe would wait for its writer
            raise ImageError("is not a regular file")
        with Path(path).open("rb") as file:
            start = file.read(32)
            try:
                with Image.open(file, formats=FORMATS) as image:
                    yield image
            except PIL.UnidentifiedImageError as error:
                raise ImageError(_unidentified(start)) from error
    except ImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"has more than {MOST_PIXELS:,} pixels") from error
    # Damaged files make Pillow raise nearly anything: OSError, SyntaxError, struct.error, OverflowError, ...
    except Exception as error:
        raise ImageError(f"cannot be read as an image ({_reason(error)})") from error


def to_rgb(image: Image.Image) -> Image.Image:
    """Return an image of any mode in 8-bit RGB, upright and on white, as `DECODING` says.

    Raises:
        ImageError: if it is too large, or its values have no known range.

    Example:
        >>> to_rgb(Image.new("RGBA", (1, 1), (255, 0, 0, 51))).getpixel((0, 0))
        (255, 204, 204)
    """
    check_size(image.size)
    image.load()
    turn = _TURNS.get(orientation_of(image))
    if image.mode in ("F", "I") or image.mode.startswith("I;16"):
        upright = _from_deep_grey(image)
    elif image.has_transparency_data:
        if image.mode == "La":  # Pillow converts it only to LA
            image = image.convert("LA")
        image = image.convert("RGBA")
        upright = Image.new("RGB", image.size, "white")
        upright.paste(image, mask=image.getchannel("A"))
    else:
        upright = image if image.mode == "RGB" else image.convert("RGB")
    if turn is None:
        return upright
    turned = upright.transpose(turn)
    turned.info.clear()  # or the EXIF orientation would be applied again
    return turned


def check_size(size: tuple[int, int]) -> None:
    """Check the width and height of an image before it is decoded.

    Raises:
        ImageError: if it is empty, too large, or too long and thin.
    """
    width, height = size
    if not width * height:
        raise ImageError(f"is empty ({width} x {height} pixels)")
    if width * height > MOST_PIXELS:
        raise ImageError(f"is {width:,} x {height:,} pixels, more than the limit of {MOST_PIXELS:,}")
    if max(size) > MOST_ELONGATED * min(size):
        raise ImageError(f"is {width:,} x {height:,} pixels, too long and thin for a central square")


def orientation_of(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 (upright) to 8; 1 if the EXIF data are damaged."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:
        return 1


def _from_deep_grey(image: Image.Image) -> Image.Image:
    """Scale grey of 16 (or, in TIFF, 12) bits to 8, and composite its transparent value on white."""
    if image.mode == "F":
        raise ImageError("holds floating-point values, whose range is not known; save it with 8 or 16 bits")
    tags = getattr(image, "tag_v2", {})
    if image.mode == "I" and tags:
        raise ImageError("holds 32-bit or signed integers, whose range is not known; save it with 8 or 16 bits")
    values = np.asarray(image).astype(np.int64)
    most = 4095 if tags.get(_TIFF_BITS) == (12,) else 65535
    if values.min() < 0 or values.max() > most:
        raise ImageError(f"holds values from {values.min()} to {values.max()}, which 16 bits do not")
    grey = (values * 255 + most // 2) // most
    if tags.get(_TIFF_PHOTOMETRIC) == _WHITE_IS_ZERO:
        grey = 255 - grey
    if "transparency" in image.info:
        grey[values == image.info["transparency"]] = 255
    return Image.fromarray(grey.astype(np.uint8)).convert("RGB")


def _unidentified(start: bytes) -> str:
    """Return why Pillow cannot read a file with these first bytes, as `ImageError.what`."""
    for name, beginning, feature in _OTHER_FORMATS:
        if re.match(beginning, start, re.DOTALL) and not (feature and features.check(feature)):
            lacking = "" if feature is None else f" by the installed Pillow {PIL.__version__}"
            return f"is in the {name} format, which is not read{lacking}; save it as JPEG or PNG"
    return "cannot be read as an image (it is empty, damaged, or of no known format)"


def _reason(error: Exception) -> str:
    """Return the message of Pillow or the system, in one line without the path."""
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(said.split()).rstrip(".") or type(error).__name__
