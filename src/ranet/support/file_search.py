"""The files in a folder and in all folders in it, each folder once."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple


class UnreadableFolder(NamedTuple):
    """The path of a folder that cannot be read, and the message of the system."""

    path: str
    reason: str


class FoundFiles(NamedTuple):
    """The files that were found, sorted by the bytes of their names; folders that cannot be read; all other files.

    ``files`` and ``skipped`` are relative to the folder, with forward slashes; ``skipped`` has skipped folders, too.
    """

    files: list[str]
    unreadable: list[UnreadableFolder]
    skipped: list[str]


def find_files(
    folder: str | Path, suffixes: tuple[str, ...], passed_over: Callable[[str], bool] = lambda _: False
) -> FoundFiles:
    """Find all files below a folder whose names end in one of the suffixes (in lower case), in upper or lower case.

    Symbolic links to folders are followed. A folder with several paths is searched once, so links may form circles; its
    files are named by the path without links, if there is one, or else by the first path in the order of names. Files
    and folders whose names are ``passed_over`` are skipped.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> (folder / "b.PNG").touch()
        >>> (folder / "again").symlink_to(folder)
        >>> find_files(folder, (".png",))
        FoundFiles(files=['b.PNG'], unreadable=[], skipped=[])
    """
    files: list[str] = []
    skipped: list[str] = []
    unreadable: list[UnreadableFolder] = []
    seen: set[tuple[int, int]] = set()
    # Folders relative to the first, with a slash at the end; those behind a link come after all others.
    waiting = deque([""])
    while waiting:
        inside = waiting.popleft()
        here = Path(folder, inside)
        try:
            status = here.stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(here) as listing:
                entries = sorted(listing, key=lambda entry: os.fsencode(entry.name))
        except OSError as error:
            unreadable.append(UnreadableFolder(str(here), error.strerror or str(error)))
            continue
        folders = []
        for entry in entries:
            if passed_over(entry.name):
                skipped.append(f"{inside}{entry.name}")
            elif _is_folder(entry):
                folders.append(entry)
            else:
                (files if entry.name.lower().endswith(suffixes) else skipped).append(f"{inside}{entry.name}")
        waiting.extendleft(f"{inside}{entry.name}/" for entry in reversed(folders) if not entry.is_symlink())
        waiting.extend(f"{inside}{entry.name}/" for entry in folders if entry.is_symlink())
    return FoundFiles(sorted(files, key=os.fsencode), unreadable, sorted(skipped, key=os.fsencode))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # such as a link to itself; opening it will say so
        return False
