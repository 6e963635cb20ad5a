"""Files that another process goes on with: wherever the first one is killed, the whole file is the same."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from ranet.errors import UserError
from ranet.inference.predictions.resumable import Origin, resumable_file, unfinished_files

ITEMS = 7
ORIGIN = Origin({"another recipe": [1, 2]}, {"size": 3})


class Killed(BaseException):
    """Ends a process without a word."""


def write(path: Path, *, resume: bool = False, origin: Origin = ORIGIN, until: int = ITEMS) -> list[int]:
    """Write two lines for each item and a mark behind every other one; returns the items that were written."""
    written = []
    with resumable_file(path, origin, resume, "items") as file:
        assert file.states == list(range(2, file.done + 1, 2))
        for item in range(file.done, until):
            file.text.write(f"item {item}\nsecond line \udce4 {item}\n")
            written.append(item)
            if item % 2:
                file.mark(item + 1, item + 1)
        if until < ITEMS:
            raise Killed
    return written


def states_of_a_killed_process(path: Path) -> Iterator[tuple[bytes, bytes]]:
    """The text and the marks as they lie on the disk at any moment: each line of marks comes after its text."""
    with suppress(Killed):
        write(path, until=ITEMS - 1)
    partial, progress = (file.read_bytes() for file in unfinished_files(path))
    sizes = [0, *(int(line.split(b'"size": ')[1].split(b",")[0]) for line in progress.splitlines()[1:])]
    at = 0
    for length in range(len(progress) + 1):
        at = sizes[max(0, progress[:length].count(b"\n") - 1)]
        yield partial[:at], progress[:length]
    for length in range(at, len(partial) + 1):
        yield partial[:length], progress
    yield partial + b"item 6\nsecond", progress


def test_wherever_a_process_was_killed_the_next_one_writes_the_same_file(tmp_path: Path) -> None:
    write(tmp_path / "whole")
    whole = (tmp_path / "whole").read_bytes()
    states = list(states_of_a_killed_process(tmp_path / "states"))
    path, skipped = tmp_path / "text", set()
    for text, marks in states:
        for file, content in zip(unfinished_files(path), (text, marks), strict=True):
            file.write_bytes(content)
        written = write(path, resume=True)
        assert path.read_bytes() == whole
        assert not any(file.exists() for file in unfinished_files(path))
        path.unlink()
        skipped.add(ITEMS - len(written))
    assert skipped == {0, 2, 4, 6}


def test_text_that_never_reached_the_disk_is_written_again(tmp_path: Path) -> None:
    write(tmp_path / "whole")
    path = tmp_path / "text"
    with pytest.raises(Killed):
        write(path, until=ITEMS - 1)
    partial, _ = unfinished_files(path)
    partial.write_bytes(partial.read_bytes()[:-1])
    assert write(path, resume=True) == [4, 5, 6]
    assert path.read_bytes() == (tmp_path / "whole").read_bytes()


def test_an_unfinished_file_is_not_written_over_nor_lost(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "text"
    path.write_text("earlier")
    with pytest.raises(Killed):
        write(path, until=3)
    partial, progress = unfinished_files(path)
    assert caplog.messages == [f"The first 2 items are kept in {partial}; add resume=true to go on after them."]
    before = partial.read_bytes(), progress.read_bytes()
    for options, message in (
        ({}, "holds the answers to the first 2 items of a run that did not end: add resume=true to go on after them, "),
        ({"resume": True, "origin": ORIGIN._replace(things={"another recipe": [1]})}, "written with another recipe: "),
        ({"resume": True, "origin": ORIGIN._replace(options={"size": 4})}, "written with size=3 and not size=4: use"),
        ({"resume": True, "origin": ORIGIN._replace(options={"size": 3, "new": 1})}, "with new=None and not new=1: "),
    ):
        with pytest.raises(UserError, match=message):
            write(path, **options)
        assert (partial.read_bytes(), progress.read_bytes()) == before
    assert path.read_text() == "earlier"
    partial.unlink()  # as the sentences say
    assert write(path) == list(range(ITEMS))
    assert [file.name for file in tmp_path.iterdir()] == ["text"]


def test_before_the_first_mark_nothing_is_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(Killed):
        write(tmp_path / "text", until=1)
    assert not caplog.messages
    assert not list(tmp_path.iterdir())


def test_a_file_is_written_by_one_process_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "text"
    with resumable_file(path, ORIGIN, False, "items") as file:
        file.text.write("mine\n")
        file.mark(1, 1)
        for resume in (False, True):
            with pytest.raises(UserError, match=f"Another process is writing {path}: wait for it, or name another"):
                write(path, resume=resume)
    assert path.read_text() == "mine\n"
    assert write(path) == list(range(ITEMS))
