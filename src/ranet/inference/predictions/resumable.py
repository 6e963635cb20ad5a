"""A file that is written from front to back, so that a later process can go on where one was killed."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple, TextIO

from ranet.errors import UserError

try:
    import fcntl
except ImportError:  # not a Unix: two processes are not kept apart
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger(__name__)


class Origin(NamedTuple):
    """Everything that decides the content of a file; a later process goes on with it only if all of it is the same.

    Attributes:
        things: JSON values, by a phrase for one that differs, such as "another network".
        options: values, by the name of the option.
    """

    things: Mapping[str, Any]
    options: Mapping[str, Any]


class ResumableFile:
    """A text file that is being written, and how far it is.

    Attributes:
        text: where to write.
        done: number of items that were done when the last mark was made; 0 at the start.
        states: what was given with each mark, in order.
    """

    text: TextIO

    def __init__(self, marks: IO[bytes], kept: Sequence[Mapping[str, Any]]) -> None:
        self.done: int = kept[-1]["done"] if kept else 0
        self.states: list[Any] = [mark["state"] for mark in kept]
        self._marks = marks

    def mark(self, done: int, state: Any) -> None:
        """Let a later process go on behind what is written: ``done`` items, and a JSON value for its `states`."""
        self.text.flush()
        size = os.fstat(self.text.fileno()).st_size
        self._marks.write(_line({"done": done, "size": size, "state": state}))
        self._marks.flush()
        self.done = done
        self.states.append(state)


def unfinished_files(path: str | Path) -> tuple[Path, Path]:
    """Return the files beside ``path`` that hold its text and its marks until it is whole."""
    path = Path(path)
    return path.with_name(f"{path.name}.partial"), path.with_name(f"{path.name}.progress")


@contextmanager
def resumable_file(path: str | Path, origin: Origin, resume: bool, items: str) -> Iterator[ResumableFile]:
    """Write a file that appears at ``path`` when the block ends without an error; an earlier one stays until then.

    Until then its text is in ``PATH.partial`` and its marks are in ``PATH.progress``. Both stay if the process is
    killed, and if the block ends with an error after the first mark. With ``resume`` a later process of the same origin
    cuts off what was written after the last mark, and goes on there. Messages count ``items``.

    Raises:
        UserError: if another process is writing the file, if there is an unfinished one and ``resume`` is false, or if
            that one has another origin.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial, progress = unfinished_files(path)
    with _locked(progress, path) as marks:
        before, kept = _read(marks, partial)
        file = ResumableFile(marks, kept)
        if kept and not resume:
            raise UserError(
                f"{partial} holds the answers to the first {file.done:,} {items} of a run that did not end: add "
                "resume=true to go on after them, or remove the file to start again."
            )
        if kept and (difference := _difference(before, origin)):
            raise UserError(
                f"resume=true cannot go on with {partial}, which was written with {difference}: use the same again, or "
                "remove the file to start again."
            )
        try:
            # File names need not be text: their bytes are written as they are.
            with partial.open("a", encoding="utf-8", errors="surrogateescape", newline="") as file.text:
                file.text.truncate(kept[-1]["size"] if kept else 0)
                file.text.seek(0, os.SEEK_END)
                if not kept:
                    marks.truncate(0)
                    marks.write(_line(origin._asdict()))
                    marks.flush()
                yield file
            partial.replace(path)
            progress.unlink()
        except BaseException:
            if file.done:
                kept_in = f"The first {file.done:,} {items} are kept in {partial}"
                log.warning("%s; add resume=true to go on after them.", kept_in)
            else:
                partial.unlink(missing_ok=True)
                progress.unlink(missing_ok=True)
            raise


@contextmanager
def _locked(progress: Path, path: Path) -> Iterator[IO[bytes]]:
    """Open the file of the marks, which one process at a time has open; it is not left behind empty."""
    while True:
        with progress.open("a+b") as file:
            try:
                if fcntl is not None:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UserError(f"Another process is writing {path}: wait for it, or name another file.") from error
            except OSError:  # a file system without locks
                pass
            if not _is_there(file, progress):  # the process that had it has ended meanwhile, and removed it
                continue
            try:
                yield file
            finally:
                if _is_there(file, progress) and not os.fstat(file.fileno()).st_size:
                    progress.unlink()
            return


def _is_there(file: IO[bytes], path: Path) -> bool:
    """Return whether an open file is the one at a path."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _read(marks: IO[bytes], partial: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the origin of an unfinished file and its marks as far as its text is there; drop the marks behind that."""
    size = partial.stat().st_size if partial.exists() else -1
    marks.seek(0)
    lines: list[dict[str, Any]] = []
    end = 0
    for line in marks:
        try:
            value = json.loads(line)
        except ValueError:
            break
        # The last line may be half of one, or its text may never have reached the disk.
        if not line.endswith(b"\n") or value.get("size", 0) > size:
            break
        lines.append(value)
        end += len(line)
    marks.truncate(end)
    return (lines[0], lines[1:]) if lines else ({}, [])


def _difference(before: Mapping[str, Any], origin: Origin) -> str | None:
    """Return what an unfinished file was written with and this process does not have; None if nothing differs."""
    now = json.loads(_line(origin._asdict()))
    for name, value in now["options"].items():
        if (was := before["options"].get(name)) != value:
            return f"{name}={was} and not {name}={value}"
    for phrase, value in now["things"].items():
        if before["things"].get(phrase) != value:
            return phrase
    return None


def _line(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value).encode() + b"\n"
