"""Which files are images, and how the others are counted."""

from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from ranet.images.decoding import FORMATS
from ranet.images.listing import SUFFIXES, describe_skipped, find_images, no_images


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_hidden_and_system_files_are_passed_over_and_counted(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "b/c.PNG", "b/d.Jpeg", "b/e.gif")
    touch(tmp_path, "._a.jpg", ".hidden.jpg", "b/.DS_Store", ".ipynb_checkpoints/a-checkpoint.jpg", ".cache/x/y.png")
    touch(tmp_path, "__MACOSX/._a.jpg", "__MACOSX/b/a.jpg", "@eaDir/a.jpg/thumb.jpg", "Thumbs.db", "b/desktop.ini")
    touch(tmp_path, "notes.txt", "b/more.TXT", "movie.mp4", "README")
    found = find_images(tmp_path)
    assert found.files == ["a.jpg", "b/c.PNG", "b/d.Jpeg", "b/e.gif"]
    expected = {"hidden": 5, "__MACOSX": 1, "@eaDir": 1, "Thumbs.db": 1, "desktop.ini": 1}
    assert found.skipped == {**expected, ".txt": 2, ".mp4": 1, "without suffix": 1}
    assert not found.unreadable


def test_a_folder_that_is_named_may_be_hidden(tmp_path: Path) -> None:
    touch(tmp_path, ".photos/a.jpg")
    assert find_images(tmp_path / ".photos").files == ["a.jpg"]


def test_suffixes_are_those_of_the_formats() -> None:
    Image.init()
    of_pillow = {suffix for suffix, name in Image.EXTENSION.items() if name in (*FORMATS, "MPO")}
    assert of_pillow <= {*SUFFIXES, ".pfm"}  # these hold floating-point values
    assert {".jpg", ".jpe", ".jfif", ".pnm", ".webp", ".avif", ".jp2", ".tif", ".gif", ".bmp"} <= {*SUFFIXES}


@pytest.mark.parametrize(
    ("skipped", "said"),
    [
        ({".txt": 1200, "hidden": 2, "Thumbs.db": 2}, "1,200 .txt, 2 Thumbs.db, 2 hidden"),
        ({f".{i}": i for i in range(1, 12)}, "11 .11, 10 .10, 9 .9, 8 .8, 7 .7, 6 .6, 5 .5, 4 .4, 6 of other kinds"),
        ({}, ""),
    ],
)
def test_kinds_are_said_in_a_line(skipped: dict[str, int], said: str) -> None:
    assert describe_skipped(Counter(skipped)) == said


def test_a_folder_without_images_says_what_it_holds(tmp_path: Path) -> None:
    touch(tmp_path, "a.heic", "b.heic")
    sentence = no_images(tmp_path, find_images(tmp_path).skipped)
    assert (
        sentence == f"The folder {tmp_path} holds no image (.jpg, .jpeg, .jpe, .jfif, .mpo, .png, ...), only 2 .heic."
    )
