"""Files and folders that are written whole or not at all."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ranet.errors import UserError

# Where this process is writing folders at the moment.
_writing: set[Path] = set()
# Why nothing can be written, and what to do about it.
_ADVICE = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some of your quota",
    errno.EFBIG: "raise the limit of file sizes (ulimit -f)",
    errno.EIO: "look after the disk",
    errno.EROFS: "choose another place",
    errno.EACCES: "choose another place",
    errno.EPERM: "choose another place",
}


class WriteError(OSError):
    """A file or folder cannot be written, and what was there before is kept; the message is a sentence for the user.

    Example:
        >>> print(WriteError(errno.ENOSPC, "No space left on device", "policy.json"))
        policy.json cannot be written (No space left on device); free some space, and do it again.
    """

    def __str__(self) -> str:
        kept = "; the earlier one is kept" if os.path.lexists(self.filename) else ""
        return f"{self.filename} cannot be written ({self.strerror}){kept}; {advice(self)}."


def advice(error: OSError) -> str:
    """Return what to do about an error of writing."""
    return f"{_ADVICE.get(error.errno or 0, 'choose another place')}, and do it again"


def is_unwritable(error: OSError) -> bool:
    """Return whether an error is one of writing; such errors often do not name the file."""
    return error.errno in _ADVICE


def default_cache() -> Path:
    """Return the folder of the cache: $RANET_CACHE, or else ``ranet`` in $XDG_CACHE_HOME or in ``~/.cache``."""
    if os.environ.get("RANET_CACHE"):
        return Path(os.environ["RANET_CACHE"]).expanduser()
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG base directory specification wants relative paths ignored.
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "ranet"


@contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """Give a path beside ``path`` to write to, and rename it to ``path`` when the block ends without an error.

    A reader never sees a half-written file, and a run that dies while writing leaves the earlier file as it was.
    The temporary name keeps the suffix of ``path``, because writers (matplotlib, NumPy) choose the format by it.

    Raises:
        WriteError: if the system does not let us write.
    """
    path = Path(path)
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    with _explained(path, partial):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield partial
            partial.replace(path)
        finally:
            with suppress(OSError):  # a read-only disk refuses also where there is nothing to remove
                partial.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write a file in UTF-8, as `written_whole`; bytes of file names that are not UTF-8 are written unchanged."""
    with written_whole(path) as partial:
        partial.write_text(text, encoding="utf-8", errors="surrogateescape", newline="")


@contextmanager
def folder_written_whole(path: str | Path) -> Iterator[Path]:
    """Give a new folder beside ``path`` to write to, which takes its place only when the block ends without an error.

    An earlier folder there is replaced by two renamings. A process that is killed leaves ``path`` as it was, or,
    between the renamings, under another name until `restore_folder`, or the next process that writes there, renames it.
    Then the remains of killed processes are removed, too.

    Raises:
        WriteError: if the system does not let us write.
    """
    path = Path(path).resolve()
    partial, earlier = (path.with_name(f".{path.name}.{os.getpid()}.{kind}") for kind in ("partial", "earlier"))
    with _explained(path, partial):
        path.parent.mkdir(parents=True, exist_ok=True)
        restore_folder(path)
        for left in _left_behind(path, "(partial|earlier)"):
            shutil.rmtree(left, ignore_errors=True)
        partial.mkdir()
        _writing.update((partial, earlier))
        try:
            yield partial
            if path.exists():
                path.rename(earlier)
            try:
                partial.rename(path)
            except BaseException:
                if earlier.exists():
                    earlier.rename(path)
                raise
            shutil.rmtree(earlier, ignore_errors=True)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
            _writing.difference_update((partial, earlier))


@contextmanager
def _explained(path: Path, partial: Path) -> Iterator[None]:
    """Raise a WriteError where ``path`` cannot be written by way of ``partial``."""
    try:
        yield
    except Exception as error:
        cause = _write_error(error, partial)
        if cause is None:
            raise
        raise WriteError(cause.errno, cause.strerror, str(path)) from error


def _write_error(error: BaseException | None, partial: Path) -> OSError | None:
    """Return the error of writing to ``partial`` or in it that led to an error; None if it has other reasons.

    PyTorch raises another one when the file refuses what it writes. Errors of writing do not say of which file.
    """
    while error is not None and not isinstance(error, UserError):
        if isinstance(error, OSError):
            of = Path(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else partial.parent
            # Or of the folder that it is to be in.
            if of.is_relative_to(partial) or (is_unwritable(error) and partial.is_relative_to(of)):
                return error
        error = error.__cause__ or error.__context__
    return None


def restore_folder(path: str | Path) -> None:
    """Give a folder (of several the last) its name back if a process was killed while it replaced it."""
    # If writing is not allowed, or links form a circle, the folder stays missing.
    with suppress(OSError, RuntimeError, ValueError):
        path = Path(path).resolve()
        if not path.exists() and (left := _left_behind(path, "earlier")):
            max(left, key=lambda each: each.stat().st_ctime).rename(path)


def _left_behind(path: Path, kind: str) -> list[Path]:
    """Return the folders beside ``path`` that processes which have ended left behind."""
    name = re.compile(rf"\.{re.escape(path.name)}\.(\d+)\.{kind}")
    beside = path.parent.glob(".*")  # nothing, where it may not be read
    found = [(each, int(match[1])) for each in beside if (match := name.fullmatch(each.name))]
    # In a container every process may have the same number: this one knows what is its own.
    return [each for each, made_by in found if each not in _writing and (made_by == os.getpid() or not _lives(made_by))]


def _lives(process: int) -> bool:
    if os.name == "nt":  # where this signal would end it
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # another user's
        return True
    return True
