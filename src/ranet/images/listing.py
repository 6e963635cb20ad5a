"""The image files of a folder, and its other files by kind."""

from __future__ import annotations

from collections import Counter
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from ranet.support.file_search import UnreadableFolder, find_files

#: The suffixes of image files, in lower case, for the formats in `ranet.images.decoding`. Pillow's own list depends on
#: how it was built, so files could be skipped silently.
SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".ppm", ".pgm", ".pbm", ".pnm", ".bmp"),
    *(".tif", ".tiff", ".webp", ".gif", ".avif", ".avifs", ".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
)
#: Folders and files that operating systems add to folders of pictures; some hold more pictures, such as thumbnails.
_OF_THE_SYSTEM = {"__macosx", "@eadir", "$recycle.bin", "thumbs.db", "ehthumbs.db", "desktop.ini"}
_MOST_KINDS = 8


class Listing(NamedTuple):
    """The images below a folder.

    Attributes:
        files: image files relative to the folder, with forward slashes, sorted by the bytes of their names.
        unreadable: folders that cannot be read, so that their files are missing here.
        skipped: number of skipped files and folders of each kind: a suffix, the name of a system file or folder,
            "hidden", or "without suffix".
    """

    files: list[str]
    unreadable: list[UnreadableFolder]
    skipped: Counter[str]


def find_images(folder: str | Path) -> Listing:
    """Find all image files below a folder, except hidden and system files.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name in ("a.JPG", "b.txt", "._a.jpg", "Thumbs.db"):
        ...     (folder / name).touch()
        >>> files, _, skipped = find_images(folder)
        >>> files, describe_skipped(skipped)
        (['a.JPG'], '1 .txt, 1 Thumbs.db, 1 hidden')
    """
    found = find_files(folder, SUFFIXES, is_passed_over)
    return Listing(found.files, found.unreadable, Counter(map(kind_of, found.skipped)))


def is_passed_over(name: str) -> bool:
    """Return whether a file or folder of this name is hidden or belongs to the system."""
    return name.startswith(".") or name.lower() in _OF_THE_SYSTEM


def describe_skipped(skipped: Counter[str]) -> str:
    """Return one line with the number of skipped files and folders of each kind, the most frequent first."""
    kinds = sorted(skipped.items(), key=lambda each: (-each[1], each[0]))
    said = [f"{count:,} {kind}" for kind, count in kinds[:_MOST_KINDS]]
    if rest := sum(count for _, count in kinds[_MOST_KINDS:]):
        said.append(f"{rest:,} of other kinds")
    return ", ".join(said)


def no_images(folder: str | Path, skipped: Counter[str]) -> str:
    """Return a sentence that a folder has no images, and what it has instead."""
    instead = f", only {describe_skipped(skipped)}" if skipped else ""
    return f"The folder {Path(folder).absolute()} holds no image ({', '.join(SUFFIXES[:6])}, ...){instead}."


def kind_of(path: str) -> str:
    """Return the kind of a skipped file or folder, for `describe_skipped`."""
    name = PurePosixPath(path)
    if is_passed_over(name.name):
        return "hidden" if name.name.startswith(".") else name.name
    return name.suffix.lower() or "without suffix"
