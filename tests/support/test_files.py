"""Folders that are whole or not there, also when a process is killed at the worst moment."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ranet.support.files import WriteError, folder_written_whole, restore_folder, written_whole

WRITE_AND_DIE = """
import os, signal, sys
from pathlib import Path
from ranet.support.files import folder_written_whole
rename, left = Path.rename, int(sys.argv[2])
def dying(path, target):
    global left
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    return rename(path, target)
Path.rename = dying
with folder_written_whole(sys.argv[1]) as partial:
    (partial / "new").touch()
"""


def write(folder: Path, name: str) -> None:
    with folder_written_whole(folder) as partial:
        (partial / name).touch()


def write_half(folder: Path) -> None:
    with folder_written_whole(folder) as partial:
        assert content(folder) == ["old"], "it is back before anything can go wrong"
        (partial / "newer").touch()
        raise RuntimeError("full")


def killed(folder: Path, renamings: int) -> None:
    """Let another process replace the folder, and be killed before it renames once more."""
    done = subprocess.run([sys.executable, "-c", WRITE_AND_DIE, folder, str(renamings)])
    assert done.returncode == -signal.SIGKILL


def content(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


@pytest.mark.parametrize("renamings", [0, 1])
def test_a_killed_process_loses_nothing_and_leaves_nothing_for_long(renamings: int, tmp_path: Path) -> None:
    target = tmp_path / "engine"
    write(target, "old")
    killed(target, renamings)
    assert target.exists() == (renamings == 0)
    assert len(content(tmp_path)) > 2
    restore_folder(target)
    assert content(target) == ["old"]
    killed(target, renamings)
    with pytest.raises(RuntimeError, match="full"):
        write_half(target)
    assert content(tmp_path) == ["engine", "engine/old"]
    write(target, "newest")
    assert content(tmp_path) == ["engine", "engine/newest"]


def test_what_a_living_process_or_no_process_has_made_stays(tmp_path: Path) -> None:
    lives = os.getppid()
    stays = [".engine.earlier", ".engine.x.partial", ".other.0.partial", f".engine.{lives}.partial"]
    for name in (*stays, f".engine.{lives}.earlier"):
        (tmp_path / name).mkdir()
    restore_folder(tmp_path / "engine")
    assert not (tmp_path / "engine").exists()
    write(tmp_path / "engine", "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["engine", f".engine.{lives}.earlier", *stays])


def test_who_writes_is_not_disturbed_by_who_opens(tmp_path: Path) -> None:
    with folder_written_whole(tmp_path / "engine") as partial:
        (tmp_path / f".engine.{os.getpid()}.earlier").mkdir()  # as between the two renamings
        restore_folder(tmp_path / "engine")
        assert not (tmp_path / "engine").exists()
        assert partial.is_dir()
    # In a container the process that was killed had the same number.
    (tmp_path / "engine").rename(tmp_path / f".engine.{os.getpid()}.earlier")
    restore_folder(tmp_path / "engine")
    assert (tmp_path / "engine").is_dir()


def test_there_is_nothing_to_restore(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    for path in ("engine", "no/where", "loop", "nul\0"):
        restore_folder(tmp_path / path)
    assert [path.name for path in tmp_path.iterdir()] == ["loop"]


def fail(target: Path, cause: OSError, wrapped: bool) -> None:
    with written_whole(target) as partial:
        partial.write_text("half")
        if not wrapped:
            raise cause
        try:
            raise cause
        finally:
            raise RuntimeError("unexpected pos 64 vs 0")


@pytest.mark.parametrize("earlier", [False, True])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EFBIG])
def test_what_cannot_be_written_is_said_with_its_reason(code: int, earlier: bool, tmp_path: Path) -> None:
    """Writing names no file, opening does; PyTorch makes another error of it."""
    target = tmp_path / "file.json"
    if earlier:
        target.write_text("earlier")
    cause = OSError(code, os.strerror(code))
    if code in (errno.EROFS, errno.EACCES):
        cause.filename = str(tmp_path)
    for wrapped in (False, True):
        with pytest.raises(WriteError) as caught:
            fail(target, cause, wrapped)
        said = str(caught.value)
        assert said.startswith(f"{target} cannot be written ({os.strerror(code)}); ")
        assert ("; the earlier one is kept; " in said) == earlier
        assert said.endswith(", and do it again.")
    assert content(tmp_path) == ["file.json"] * earlier
    assert not earlier or target.read_text() == "earlier"
