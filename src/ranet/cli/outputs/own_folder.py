"""A folder of results for each command: its default name is unique, and only one process at a time works in it."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from secrets import token_hex

from omegaconf import OmegaConf

from ranet.errors import UserError
from ranet.support.hardware import is_first_process

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"


def register_stamp() -> None:
    """Give configurations ``${stamp:}``: date, time and six characters that no other command has.

    It is the same in all jobs of a sweep, because Hydra passes the resolved text to them.
    """
    OmegaConf.register_new_resolver(
        "stamp", lambda: f"{datetime.now():%Y-%m-%d_%H-%M-%S}_{token_hex(3)}", use_cache=True, replace=True
    )


@contextmanager
def locked(folder: str | Path | None) -> Iterator[None]:
    """Keep other processes out of a folder of results.

    The system releases the lock when the process ends, in whatever way. Workers do not inherit it, and the other
    processes of a distributed run do not take it. On a file system without locks, and for None, nothing is locked. The
    folder is created if it is missing.

    Raises:
        UserError: if another process is using the folder.
    """
    if folder is None or fcntl is None or not is_first_process():
        yield
        return
    folder = Path(folder)
    new = [each for each in (folder, *folder.parents) if not each.exists()]
    held = _lock(folder / LOCK)
    try:
        yield
    finally:
        if held is not None:
            with suppress(OSError):
                (folder / LOCK).unlink()
            os.close(held)
        with suppress(OSError):  # there is something in it
            for each in new:
                each.rmdir()


def _lock(path: Path) -> int | None:
    """Return the open lock file; None if the file system has no locks."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError:  # of which the user hears when something is to be written
        return None
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.read(file, 200).decode(errors="replace") or "another process"
        os.close(file)
        if error.errno in (errno.EAGAIN, errno.EACCES):
            raise UserError(
                f"{path.parent} is in use by {holder}; wait until it is done, or choose another folder."
            ) from error
        return None
    if not _is_at(file, path):  # the one that had it has just removed it
        os.close(file)
        return _lock(path)
    with suppress(OSError):
        os.ftruncate(file, 0)
        os.write(file, f"process {os.getpid()} on {socket.gethostname()}".encode())
    return file


def _is_at(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False
