"""The images that ``ranet predict`` is given: files, folders or a NumPy array, read ahead and in order.

An image that cannot be read becomes a sentence that says so; the others go on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from stat import S_ISREG
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from ranet.errors import UserError
from ranet.file_search import find_files
from ranet.hardware import available_cores
from ranet.inference.preprocessing import Floats, Preprocessing

#: The suffixes of the files that are images, as torchvision has them.
SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
#: What these files may hold, whatever their suffix. Pillow would hand PostScript, for one, to another program.
FORMATS = ("JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP", "GIF")
#: An image of more pixels is refused before it is decoded; so is one so thin that it has more when it is resized.
MOST_PIXELS = 2**26
_AHEAD = 4  # images that wait, read, for each thread that reads


class ReadImage(NamedTuple):
    """One of the images that were asked for.

    Attributes:
        name: its path, or its index in the array.
        pixels: what the network reads, float32 (3, S, S); None if it cannot be read.
        error: why not, in one sentence; None if it can.
    """

    name: str
    pixels: Floats | None
    error: str | None = None


@dataclass(frozen=True)
class ImageFiles:
    """Images in files.

    Args:
        paths: in order.
        left_out: a sentence about each folder that cannot be read, whose images are missing in the paths.
    """

    paths: tuple[str, ...]
    left_out: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.paths)

    def sentence_about(self, name: str, what: str) -> str:
        """A sentence about the image of this name."""
        return f"{name} {what}."

    def read(self, index: int, preprocessing: Preprocessing) -> ReadImage:
        """Read one image."""
        path = self.paths[index]
        try:
            if not S_ISREG(Path(path).stat().st_mode):  # to open a pipe is to wait for who writes to it
                return ReadImage(path, None, self.sentence_about(path, "is no file; only files are read as images"))
            with Image.open(path, formats=FORMATS) as image:
                if problem := _too_large(image.size, preprocessing):
                    return ReadImage(path, None, self.sentence_about(path, problem))
                return ReadImage(path, preprocessing(image))
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            return ReadImage(
                path, None, self.sentence_about(path, f"has more than {MOST_PIXELS:,} pixels; make it smaller")
            )
        # Damaged files make Pillow raise nearly anything: OSError, SyntaxError, struct.error, OverflowError, ...
        except Exception as error:
            return ReadImage(path, None, self.sentence_about(path, f"cannot be read as an image ({_reason(error)})"))


@dataclass(frozen=True, eq=False)
class ImageArray:
    """Images in a NumPy array.

    Args:
        images: uint8 (N, H, W, 3) or (N, 3, H, W), pixels of any size, or float32 (N, 3, S, S), normalised as the
            network was trained.
        path: of the array's file.
    """

    images: npt.NDArray[Any]
    path: str
    left_out: ClassVar[tuple[str, ...]] = ()

    def __len__(self) -> int:
        return len(self.images)

    def sentence_about(self, name: str, what: str) -> str:
        """A sentence about the image of this name."""
        return f"Image {name} of {self.path} {what}."

    def read(self, index: int, preprocessing: Preprocessing) -> ReadImage:
        """Read one image."""
        image, name = np.asarray(self.images[index]), str(index)
        if image.dtype == np.uint8:
            if image.shape[-1] != 3:
                image = image.transpose(1, 2, 0)
            if problem := _too_large((image.shape[1], image.shape[0]), preprocessing):
                return ReadImage(name, None, self.sentence_about(name, problem))
            return ReadImage(name, preprocessing(Image.fromarray(np.ascontiguousarray(image))))
        if not np.isfinite(image).all():
            return ReadImage(name, None, self.sentence_about(name, "holds NaN or infinities"))
        return ReadImage(name, image.astype(np.float32, order="C"))


def open_images(given: str | Path | Sequence[str | Path], preprocessing: Preprocessing) -> ImageFiles | ImageArray:
    """Find images, and read none of them yet.

    Args:
        given: an image file; a folder, searched with all folders in it, sorted by path; a list of files and folders; or
            a NumPy file (.npy) as for `ImageArray`, which is not loaded whole.
        preprocessing: what is going to happen to them.

    Raises:
        UserError: if there is nothing at a path, no image in a folder, or no array of images in a NumPy file.
    """
    listed = not isinstance(given, str | Path)
    names = [str(name) for name in given] if isinstance(given, Sequence) and listed else [str(given)]
    if not names:
        raise UserError("There are no images; name a folder, files or a NumPy array (.npy).")
    if len(names) == 1 and names[0].lower().endswith(".npy"):
        return _open_array(names[0], preprocessing)
    paths: list[str] = []
    left_out: list[str] = []
    for name in names:
        if name.lower().endswith(".npz"):
            raise UserError(f"{name} is an archive of arrays; write the images alone with numpy.save, as .npy.")
        if name.lower().endswith(".npy"):
            raise UserError(f"{name} is an array of images; give it alone, without other images.")
        found, unreadable = _files(name)
        paths += found
        left_out += unreadable
    return ImageFiles(tuple(paths), tuple(left_out))


def read_ahead(
    source: ImageFiles | ImageArray, preprocessing: Preprocessing, threads: int, start: int = 0
) -> Iterator[ReadImage]:
    """Read images in order, by some threads that are at most a few images ahead of who takes them.

    Args:
        source: of `open_images`.
        preprocessing: what happens to each image.
        threads: how many read; Pillow lets others work while it decodes.
        start: index of the first image.
    """
    with ThreadPoolExecutor(threads, thread_name_prefix="ranet-images") as pool:
        indices = iter(range(start, len(source)))
        waiting: deque[Future[ReadImage]] = deque()
        try:
            while True:
                for index in islice(indices, _AHEAD * threads - len(waiting)):
                    waiting.append(pool.submit(source.read, index, preprocessing))
                if not waiting:
                    return
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def default_readers() -> int:
    """One thread for each core that this process may use; 8 at most."""
    cores = available_cores()
    return min(8, cores)


def _files(name: str) -> tuple[list[str], list[str]]:
    """One file, or all image files below a folder, sorted by path; a sentence about each folder that is left out."""
    if not Path(name).is_dir():
        if not Path(name).exists():
            raise UserError(f"There is no folder and no image {Path(name).absolute()}; say where the images lie.")
        return [name], []
    found = find_files(name, SUFFIXES)
    left_out = [f"The folder {path} cannot be read ({reason})." for path, reason in found.unreadable]
    if not found.files:
        if left_out:
            raise UserError(left_out[0])
        raise UserError(f"The folder {Path(name).absolute()} holds no image ({', '.join(SUFFIXES)}).")
    return [str(Path(name, file)) for file in found.files], left_out


def _open_array(name: str, preprocessing: Preprocessing) -> ImageArray:
    if Path(name).exists() and not Path(name).is_file() and not Path(name).is_dir():
        raise UserError(f"{name} is no file; write the array with numpy.save.")
    try:
        images = np.load(name, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise UserError(f"There is no array {Path(name).absolute()}; say where the images lie.") from error
    except OSError as error:
        raise UserError(f"The array {name} cannot be read ({error.strerror or error}).") from error
    except (ValueError, EOFError, SyntaxError, TypeError, OverflowError, MemoryError) as error:
        raise UserError(f"{name} is no whole array of numbers; write it with numpy.save.") from error
    size = preprocessing.image_size
    what = f"{images.dtype} {images.shape}" if isinstance(images, np.ndarray) else "several arrays"
    ready = isinstance(images, np.ndarray) and images.ndim == 4
    if ready and images.dtype == np.uint8:
        ready = (images.shape[-1] == 3 or images.shape[1] == 3) and min(images.shape[1:]) > 0
    elif ready:
        ready = images.dtype == np.float32 and images.shape[1:] == (3, size, size)
    if not ready:
        raise UserError(
            f"{name} holds {what}; it must hold pixels as uint8 (N, H, W, 3) or (N, 3, H, W), or images that are "
            f"normalised already as float32 (N, 3, {size}, {size})."
        )
    if not len(images):
        raise UserError(f"The array {name} holds no image.")
    return ImageArray(images, name)


def _too_large(size: tuple[int, int], preprocessing: Preprocessing) -> str | None:
    """The end of a sentence about an image of this width and height that must not be decoded."""
    width, height = size
    if width * height > MOST_PIXELS:
        return f"is {width:,} x {height:,} pixels and at most {MOST_PIXELS:,} in all are read; make it smaller"
    if not width * height:
        return f"is {width} x {height} pixels, which is nothing"
    wide, high = preprocessing.resized(width, height)
    if wide * high > MOST_PIXELS:
        return f"is {width:,} x {height:,} pixels, too long and thin for a central square; cut it first"
    return None


def _reason(error: Exception) -> str:
    """What Pillow or the system says, in one line that does not name the path again."""
    if isinstance(error, Image.UnidentifiedImageError):
        return "it is empty, or of no known format"
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(said.split()).rstrip(".") or type(error).__name__
