"""Which files of a folder are images, and what is there besides."""

from __future__ import annotations

from collections import Counter
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from ranet.support.file_search import UnreadableFolder, find_files

#: The suffixes of image files, in lower case: those of the formats in `ranet.images.decoding`. Not asked of Pillow,
#: whose answer depends on how it was built, and files would vanish in silence.
SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".ppm", ".pgm", ".pbm", ".pnm", ".bmp"),
    *(".tif", ".tiff", ".webp", ".gif", ".avif", ".avifs", ".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
)
#: Folders and files that systems put among pictures; some hold more pictures, such as thumbnails.
_OF_THE_SYSTEM = {"__macosx", "@eadir", "$recycle.bin", "thumbs.db", "ehthumbs.db", "desktop.ini"}
_MOST_KINDS = 8


class Listing(NamedTuple):
    """The images below a folder.

    Attributes:
        files: relative to the folder, with forward slashes, sorted by the bytes of their names.
        unreadable: the folders whose files are missing here.
        skipped: how many files and folders were passed over, by kind: a suffix, the name of a system's own file or
            folder, "hidden", or "without suffix".
    """

    files: list[str]
    unreadable: list[UnreadableFolder]
    skipped: Counter[str]


def find_images(folder: str | Path) -> Listing:
    """Find all image files below a folder, without those that are hidden or the system's.

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
    """Whether a file or folder of this name is hidden or the system's own."""
    return name.startswith(".") or name.lower() in _OF_THE_SYSTEM


def describe_skipped(skipped: Counter[str]) -> str:
    """Say in one line how many files and folders of which kinds were passed over, the most frequent first."""
    kinds = sorted(skipped.items(), key=lambda each: (-each[1], each[0]))
    said = [f"{count:,} {kind}" for kind, count in kinds[:_MOST_KINDS]]
    if rest := sum(count for _, count in kinds[_MOST_KINDS:]):
        said.append(f"{rest:,} of other kinds")
    return ", ".join(said)


def no_images(folder: str | Path, skipped: Counter[str]) -> str:
    """Say in a sentence that a folder holds no images, and what it holds instead."""
    instead = f", only {describe_skipped(skipped)}" if skipped else ""
    return f"The folder {Path(folder).absolute()} holds no image ({', '.join(SUFFIXES[:6])}, ...){instead}."


def kind_of(path: str) -> str:
    """What `describe_skipped` calls a file or folder that is passed over."""
    name = PurePosixPath(path)
    if is_passed_over(name.name):
        return "hidden" if name.name.startswith(".") else name.name
    return name.suffix.lower() or "without suffix"
