"""The images of ``ranet predict``: files, folders or a NumPy array, read ahead and in order.

An image that cannot be read becomes an error sentence, and the others are read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from ranet.errors import UserError
from ranet.images.decoding import ImageError, read_image
from ranet.images.listing import describe_skipped, find_images, no_images
from ranet.images.preprocessing import Floats, Prepares
from ranet.support.hardware import available_cores
from ranet.support.shapes import image_shape


class ReadImage(NamedTuple):
    """One image.

    Attributes:
        name: path of the image, or its index in the array.
        pixels: input of the network, float32 (C, H, W); None if the image cannot be read.
        error: why the image cannot be read, in one sentence; None if it can.
    """

    name: str
    pixels: Floats | None
    error: str | None = None


@dataclass(frozen=True)
class ImageFiles:
    """Images in files.

    Args:
        paths: in order.
        left_out: a sentence about each folder that cannot be read; its images are missing in the paths.
        skipped: numbers of skipped files by kind, such as ``3 .txt, 1 hidden``.
    """

    paths: tuple[str, ...]
    left_out: tuple[str, ...] = ()
    skipped: str = ""

    def __len__(self) -> int:
        return len(self.paths)

    def sentence_about(self, name: str, what: str) -> str:
        """Return a sentence about the image of this name."""
        return f"{name} {what}."

    def read(self, index: int, preprocessing: Prepares) -> ReadImage:
        """Read one image."""
        path = self.paths[index]
        try:
            return ReadImage(path, preprocessing(read_image(path)))
        except ImageError as error:
            return ReadImage(path, None, self.sentence_about(path, error.what))


@dataclass(frozen=True, eq=False)
class ImageArray:
    """Images in a NumPy array.

    Args:
        images: uint8 (N, H, W, C) or (N, C, H, W), pixels of any size, or float32 (N, C, H, W), normalised as the
            network was trained.
        path: of the array's file.
    """

    images: npt.NDArray[Any]
    path: str
    left_out: ClassVar[tuple[str, ...]] = ()
    skipped: ClassVar[str] = ""

    def __len__(self) -> int:
        return len(self.images)

    def sentence_about(self, name: str, what: str) -> str:
        """Return a sentence about the image of this name."""
        return f"Image {name} of {self.path} {what}."

    def read(self, index: int, preprocessing: Prepares) -> ReadImage:
        """Read one image."""
        image, name = np.asarray(self.images[index]), str(index)
        if image.dtype == np.uint8:
            if image.shape[-1] != preprocessing.channels:
                image = image.transpose(1, 2, 0)
            picture = image[..., 0] if preprocessing.mode == "L" else image
            try:
                return ReadImage(name, preprocessing(Image.fromarray(np.ascontiguousarray(picture))))
            except ImageError as error:
                return ReadImage(name, None, self.sentence_about(name, error.what))
        if not np.isfinite(image).all():
            return ReadImage(name, None, self.sentence_about(name, "holds NaN or infinities"))
        return ReadImage(name, image.astype(np.float32, order="C"))


def open_images(given: str | Path | Sequence[str | Path], preprocessing: Prepares) -> ImageFiles | ImageArray:
    """Find images without reading them.

    Args:
        given: an image file, whatever its name; a folder, searched with all folders in it for files with the suffixes
            of images, sorted by path; a list of files and folders; or a NumPy file (.npy) as for `ImageArray`, which is
            not loaded whole.
        preprocessing: of the network that will read them.

    Raises:
        UserError: if a path does not exist, a folder has no image, or a NumPy file is not an array of images.
    """
    listed = not isinstance(given, str | Path)
    names = [str(name) for name in given] if isinstance(given, Sequence) and listed else [str(given)]
    if not names:
        raise UserError("There are no images; give a folder, files or a NumPy array (.npy).")
    if len(names) == 1 and names[0].lower().endswith(".npy"):
        return _open_array(names[0], preprocessing)
    paths: list[str] = []
    left_out: list[str] = []
    skipped: Counter[str] = Counter()
    for name in names:
        if name.lower().endswith(".npz"):
            raise UserError(f"{name} is an archive of arrays; write the images alone with numpy.save, as .npy.")
        if name.lower().endswith(".npy"):
            raise UserError(f"{name} is an array of images; give it alone, without other images.")
        if not Path(name).is_dir():
            if not Path(name).exists():
                raise UserError(
                    f"There is no folder and no image {Path(name).absolute()}; give the path of the images."
                )
            paths.append(name)
            continue
        found = find_images(name)
        unreadable = [f"The folder {path} cannot be read ({reason})." for path, reason in found.unreadable]
        if not found.files:
            raise UserError(unreadable[0] if unreadable else no_images(name, found.skipped))
        paths += [str(Path(name, file)) for file in found.files]
        left_out += unreadable
        skipped += found.skipped
    return ImageFiles(tuple(paths), tuple(left_out), describe_skipped(skipped))


def default_readers() -> int:
    """Return one thread for each core that this process may use; 8 at most."""
    cores = available_cores()
    return min(8, cores)


def _open_array(name: str, preprocessing: Prepares) -> ImageArray:
    if Path(name).exists() and not Path(name).is_file() and not Path(name).is_dir():
        raise UserError(f"{name} is not a regular file; write the array with numpy.save.")
    try:
        images = np.load(name, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise UserError(f"There is no array {Path(name).absolute()}; give the path of the images.") from error
    except OSError as error:
        raise UserError(f"The array {name} cannot be read ({error.strerror or error}).") from error
    except (ValueError, EOFError, SyntaxError, TypeError, OverflowError, MemoryError) as error:
        raise UserError(f"{name} is not a complete array of numbers; write it with numpy.save.") from error
    channels = preprocessing.channels
    shape = image_shape(preprocessing.image_size, channels)
    what = f"{images.dtype} {images.shape}" if isinstance(images, np.ndarray) else "several arrays"
    ready = isinstance(images, np.ndarray) and images.ndim == 4
    if ready and images.dtype == np.uint8:
        ready = channels in (images.shape[-1], images.shape[1]) and min(images.shape[1:]) > 0
    elif ready:
        ready = images.dtype == np.float32 and images.shape[1:] == shape
    if not ready:
        raise UserError(
            f"{name} holds {what}; it must hold pixels as uint8 (N, H, W, {channels}) or (N, {channels}, H, W), or "
            f"images that are normalised already as float32 (N, {', '.join(map(str, shape))})."
        )
    if not len(images):
        raise UserError(f"The array {name} holds no image.")
    return ImageArray(images, name)
