"""Files below a folder, whatever links there are and whatever cannot be read."""

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranet.support.file_search import FoundFiles, UnreadableFolder, find_files


def touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def test_links_in_circles_end(tmp_path: Path) -> None:
    for name in ("a.png", "b/b.png", "b/deep/c.png"):
        touch(tmp_path / name)
    (tmp_path / "again").symlink_to(".")
    (tmp_path / "b" / "up").symlink_to(tmp_path)
    (tmp_path / "b" / "deep" / "beside").symlink_to(tmp_path / "b")
    (tmp_path / "itself").symlink_to("itself")
    assert find_files(tmp_path, (".png",)) == FoundFiles(["a.png", "b/b.png", "b/deep/c.png"], [], ["itself"])


def test_files_are_named_by_the_way_without_links(tmp_path: Path) -> None:
    touch(tmp_path / "search" / "z" / "image.PNG")
    (tmp_path / "search" / "a").symlink_to("z")
    touch(tmp_path / "elsewhere" / "other.jpg")
    for name in ("y", "x"):
        (tmp_path / "search" / name).symlink_to(tmp_path / "elsewhere")
    assert find_files(tmp_path / "search", (".png", ".jpg")).files == ["x/other.jpg", "z/image.PNG"]


def test_a_folder_may_be_called_like_an_image(tmp_path: Path) -> None:
    touch(tmp_path / "images.png" / "a.png")
    (tmp_path / "broken.png").symlink_to("nowhere")
    assert find_files(tmp_path, (".png",)).files == ["broken.png", "images.png/a.png"]


names = st.text(st.sampled_from("aB-é\udce4"), min_size=1, max_size=2)


@given(paths=st.sets(st.lists(names, min_size=1, max_size=3).map(lambda parts: "/".join(parts) + ".png"), max_size=8))
def test_without_links_it_is_what_pathlib_finds(paths: set[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("found")
    for path in paths:
        touch(folder / path)
    expected = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    found = find_files(folder, (".png",))
    assert found.files == sorted(expected, key=os.fsencode)
    assert len(found.files) == len(paths)


def test_folders_that_cannot_be_read_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a/a.png", "closed/b.png", "z.png"):
        touch(tmp_path / name)
    scan = os.scandir

    def refusing(path: Any) -> Any:
        if Path(path).name == "closed":  # the super-user may read any
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refusing)
    assert find_files(tmp_path, (".png",)) == FoundFiles(
        ["a/a.png", "z.png"], [UnreadableFolder(str(tmp_path / "closed"), "Permission denied")], []
    )


def test_what_is_passed_over_is_not_looked_into_but_said(tmp_path: Path) -> None:
    for name in ("a.png", "notes.txt", ".a.png", ".cache/b.png", "b/.c.png"):
        touch(tmp_path / name)
    found = find_files(tmp_path, (".png",), lambda name: name.startswith("."))
    assert found == FoundFiles(["a.png"], [], [".a.png", ".cache", "b/.c.png", "notes.txt"])
