"""Image files that cannot be read are found before training; a second look at the same files reads none of them."""

import logging
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ranet.data import ImageData
from ranet.data.sets.sources import list_images
from ranet.errors import UserError
from ranet.images import readable as reading
from ranet.images.decoding import ImageError, read_image
from ranet.images.readable import find_unreadable, why_unreadable


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache for each test: folders of tests may have the same path one day after the other."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("RANET_CACHE", str(folder))
    return folder


def data(folder: Path, **options: object) -> ImageData:
    return ImageData("imagefolder", root=folder, image_size=16, **options)


def cut(path: Path, share: float = 0.5) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def test_the_quick_look_refuses_what_the_reader_refuses(tmp_path: Path) -> None:
    """JPEGs cut off anywhere, of which the quick look computes an eighth, and other formats."""
    pixels = np.random.default_rng(0).integers(256, size=(50, 70, 3), dtype=np.uint8)
    refused = 0
    for suffix, options in ((".jpg", {}), (".jpg", {"progressive": True}), (".png", {}), (".webp", {}), (".tiff", {})):
        whole = tmp_path / f"whole{suffix}"
        Image.fromarray(pixels).save(whole, **options)
        content = whole.read_bytes()
        for length in (*range(0, len(content), len(content) // 23), *range(len(content) - 4, len(content) + 1)):
            path = tmp_path / f"cut{suffix}"
            path.write_bytes(content[:length])
            try:
                read_image(path)
                expected = None
            except ImageError as error:
                expected = error.what
            assert why_unreadable(path) == expected, (suffix, length)
            refused += expected is not None
    assert refused > 60
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "float.tiff")
    os.mkfifo(tmp_path / "pipe.png")
    assert "floating-point" in str(why_unreadable(tmp_path / "float.tiff"))
    assert why_unreadable(tmp_path / "pipe.png") == "is not a regular file"
    assert "No such file" in str(why_unreadable(tmp_path / "nothing.png"))


def test_a_second_look_reads_only_what_changed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"train/{name}/{i}.png" for name in ("cat", "dog") for i in range(6)]
    read: list[str] = []

    def counted(path: Path) -> str | None:
        read.append(str(path.relative_to(folder)))
        return why_unreadable(path)

    monkeypatch.setattr(reading, "why_unreadable", counted)
    cut(folder / names[3])
    assert list(find_unreadable(folder, names)) == [3]
    assert sorted(read) == names
    read.clear()
    assert list(find_unreadable(folder, names)) == [3]
    assert read == [names[3]], "what cannot be read may be readable next time"
    read.clear()
    status = (folder / names[5]).stat()
    cut(folder / names[5])
    os.utime(folder / names[5], ns=(status.st_atime_ns, status.st_mtime_ns))  # only the length tells
    status = (folder / names[7]).stat()
    (folder / names[7]).write_bytes(bytes(status.st_size))  # only the time tells
    os.utime(folder / names[7], ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000))
    (folder / names[8]).unlink()
    Image.new("RGB", (8, 8)).save(folder / names[3])
    assert list(find_unreadable(folder, names)) == [5, 7, 8]
    assert sorted(read) == [names[i] for i in (3, 5, 7, 8)]


def test_without_a_place_for_the_cache(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (cache / "file").touch()
    monkeypatch.setenv("RANET_CACHE", str(cache / "file"))
    cut(folder / "train" / "cat" / "0.png")
    assert list(find_unreadable(folder, ["train/cat/0.png", "train/cat/1.png"])) == [0]


def test_what_was_looked_at_before_an_interruption_is_remembered(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"train/{name}/{i}.png" for name in ("cat", "dog") for i in range(6)]
    monkeypatch.setattr("ranet.images.many._CHUNK", 1)

    def interrupted(path: Path) -> str | None:
        if path.name == "5.png":
            raise KeyboardInterrupt
        return None

    monkeypatch.setattr(reading, "why_unreadable", interrupted)
    with pytest.raises(KeyboardInterrupt):
        find_unreadable(folder, names)
    read: list[str] = []
    monkeypatch.setattr(reading, "why_unreadable", lambda path: read.append(path.name))
    find_unreadable(folder, names[:6])
    assert read == ["5.png"]


def test_images_that_cannot_be_read_are_named(folder: Path) -> None:
    cut(folder / "train" / "dog" / "4.png")
    (folder / "train" / "cat" / "2.png").write_text("no image")
    with pytest.raises(UserError) as caught:
        data(folder).setup()
    heading, first, second, what_to_do = str(caught.value).splitlines()
    assert heading == f"2 of 12 images in {folder / 'train'} cannot be used:"
    assert first == "  cat/2.png cannot be read as an image (it is empty, damaged, or of no known format)"
    assert second.startswith("  dog/4.png cannot be read as an image (")
    assert what_to_do == "Mend or remove them, or leave them out with data.on_bad=skip."


def test_the_first_ten_are_named(folder: Path) -> None:
    for path in (folder / "train").rglob("*.png"):
        if path.parent.name == "cat" or path.name != "0.png":
            path.write_bytes(b"")
    with pytest.raises(UserError) as caught:
        data(folder).setup()
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("11 of 12 images")
    assert lines[10:12] == [next(line for line in lines if "dog/4.png" in line), "  and 1 more"]


def test_only_the_splits_that_are_used_are_looked_at(folder: Path) -> None:
    cut(folder / "val" / "cat" / "0.png")
    assert data(folder).size("train") > 0
    with pytest.raises(UserError, match=r"1 of 6 images in .*val cannot be used"):
        data(folder).size("test")


def test_skipped_images_are_in_no_split_and_no_digest(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As if they had never been there."""
    (folder / "train" / "dog" / "4.png").rename(folder / "kept.png")
    without = data(folder, validation_size=4)
    record = without.record()
    (folder / "kept.png").rename(folder / "train" / "dog" / "4.png")
    cut(folder / "train" / "dog" / "4.png")
    with caplog.at_level(logging.INFO, "ranet"):
        skipping = data(folder, validation_size=4, on_bad="skip")
        assert skipping.record() == record
    (said,) = [line.getMessage() for line in caplog.records]
    assert said.startswith(f"1 of 12 images in {folder / 'train'} cannot be used and are left out, such as dog/4.png,")
    assert skipping.size("train") + skipping.size("validation") == 11
    assert len(torch.cat([labels for _, labels in skipping.train_dataloader()])) == 7


def test_a_split_without_one_readable_image_stops_always(folder: Path) -> None:
    for path in (folder / "val").rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(UserError, match=r"6 of 6 images in(.|\n)*Mend or remove them\.$"):
        data(folder, on_bad="skip").size("test")


def test_the_option(folder: Path) -> None:
    with pytest.raises(UserError, match=r"Unknown data.on_bad 'ignore'; .*skip, stop"):
        data(folder, on_bad="ignore")
    with pytest.raises(UserError, match=r"data.on_bad is for images in files and has no effect on digits"):
        ImageData("digits", on_bad="skip")
    assert len(list_images(folder / "train", ["cat", "dog"])) == 12
