"""Find image files that cannot be read; each file is read once, and again if it has changed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path

import PIL

from ranet.images.decoding import DECODING, ImageError, check_size, opened, to_rgb
from ranet.images.many import for_each
from ranet.support.files import default_cache, written_whole

_KEY = 16  # bytes of the hash of a file's name, length and modification time


def find_unreadable(folder: Path, names: Sequence[str]) -> dict[int, str]:
    """Return the image files that `ranet.images.decoding.read_image` refuses.

    The user's cache stores which files can be read, by path, size and modification time, so a second check of the same
    files reads none of them.

    Args:
        folder: folder of the files.
        names: the files, relative to the folder.

    Returns:
        The reason, as `ImageError.what`, by the index of each refused file.
    """
    memory = _memory(folder)
    known, keys = _recall(memory), [_key(folder, name) for name in names]
    new = [index for index, key in enumerate(keys) if key not in known]
    refused: dict[int, str] = {}
    read = {key for key in keys if key is not None and key in known}
    try:
        reasons = for_each(lambda index: why_unreadable(folder / names[index]), new, "Reading images")
        for index, reason in zip(new, reasons, strict=True):
            if reason is not None:
                refused[index] = reason
            elif (key := keys[index]) is not None:
                read.add(key)
    finally:
        if new:
            _remember(memory, read)
    return refused


def why_unreadable(path: Path) -> str | None:
    """Return why an image file is refused, as `ImageError.what`; None if it can be read."""
    try:
        with opened(path) as image:
            check_size(image.size)
            # Read all bytes of a JPEG, but decode only an eighth of its rows and columns: a third of the time.
            image.draft(None, (1, 1))
            to_rgb(image)
    except ImageError as error:
        return error.what
    return None


def _memory(folder: Path) -> Path:
    """Return the cache file of the images below a folder that this decoder can read."""
    which = f"{DECODING}\0{PIL.__version__}\0".encode() + os.fsencode(folder.resolve())
    return default_cache() / "readable" / blake2b(which, digest_size=_KEY).hexdigest()


def _key(folder: Path, name: str) -> bytes | None:
    try:
        status = (folder / name).stat()
    except OSError:
        return None
    which = os.fsencode(name) + f"\0{status.st_size}\0{status.st_mtime_ns}".encode()
    return blake2b(which, digest_size=_KEY).digest()


def _recall(memory: Path) -> set[bytes]:
    try:
        content = memory.read_bytes()
    except OSError:
        return set()
    return {content[i : i + _KEY] for i in range(0, len(content), _KEY)}


def _remember(memory: Path, read: set[bytes]) -> None:
    with suppress(OSError), written_whole(memory) as partial:  # without a cache the files are read again
        partial.write_bytes(b"".join(sorted(read)))
