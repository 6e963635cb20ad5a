"""What is found in a data set with every kind of mistake."""

import shutil
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ranet.data import ImageData
from ranet.data.checks.described import split_notices
from ranet.data.checks.health import Finding, Health, Part, examine, numbers_sorted_as_text, parts_of
from ranet.images.inspection import inspect_pixels


def data(folder: Path) -> ImageData:
    return ImageData("imagefolder", root=folder, image_size=16)


def found(folder: Path) -> Health:
    return examine(parts_of(data(folder)))


def table(health: Health) -> dict[str, tuple[str, ...]]:
    return {what: cells for what, *cells in health.rows}


def picture(path: Path, seed: int, side: int = 40) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(256, size=(side, side, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def healthy(tmp_path: Path) -> Path:
    """Twelve images of each class to train on, four to test."""
    for split, count in (("train", 12), ("val", 4)):
        for name in ("cat", "dog"):
            for i in range(count):
                picture(tmp_path / split / name / f"{i}.png", seed=zlib.crc32(f"{split} {name} {i}".encode()))
    return tmp_path


def test_nothing_is_found_where_nothing_is_wrong(healthy: Path) -> None:
    health = found(healthy)
    assert health.findings == []
    assert not health.to_mend
    assert health.rows[0] == ("", "train", "val")
    rows = table(health)
    assert rows["images"] == ["24", "8"]
    assert rows["largest class"] == rows["smallest class"] == ["12", "4"]
    assert rows["median short side"] == ["40", "40"]
    assert split_notices(data(healthy)) == []


def test_every_kind_is_found(healthy: Path) -> None:
    train, val = healthy / "train", healthy / "val"
    (train / "cat" / "1.png").write_bytes((train / "cat" / "1.png").read_bytes()[:900])
    shutil.copy(train / "cat" / "2.png", train / "dog" / "copy.png")
    shutil.copy(train / "cat" / "3.png", val / "cat" / "leak.png")
    Image.open(train / "dog" / "3.png").save(val / "dog" / "again.webp", lossless=True)
    Image.open(train / "cat" / "4.png").convert("P").save(train / "cat" / "4.png")
    Image.fromarray(np.arange(1600, dtype=np.uint16).reshape(40, 40) * 40).save(train / "cat" / "5.png")
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.open(train / "cat" / "6.png").save(train / "cat" / "6.png", exif=turned)
    Image.open(train / "cat" / "7.png").convert("RGBA").save(train / "cat" / "7.png")
    Image.open(train / "cat" / "8.png").convert("CMYK").save(train / "cat" / "8.jpg")
    (train / "cat" / "8.png").unlink()
    (train / "eel").mkdir()
    picture(val / "fox" / "0.png", seed=1, side=90)
    (train / "cat" / "notes.txt").touch()
    (train / "README").touch()
    (val / "cat" / "._0.png").touch()
    health = found(healthy)
    (bad,) = [each for each in health.findings if each.finding == "unreadable"]
    assert bad[:3] == ("train/cat/1.png", "train", "cat")
    assert set(health.findings) - {bad} == {
        Finding("train/dog/copy.png", "train", "dog", "copy", "as train/cat/2.png, which is of class cat"),
        Finding("val/cat/leak.png", "val", "cat", "in another split", "as train/cat/3.png"),
        Finding("val/dog/again.webp", "val", "dog", "looks the same", "as train/dog/3.png"),
        Finding("train/cat/4.png", "train", "cat", "palette", ""),
        Finding("train/cat/5.png", "train", "cat", "16-bit", ""),
        Finding("train/cat/6.png", "train", "cat", "turned by EXIF", "orientation 6"),
        Finding("train/cat/7.png", "train", "cat", "transparent", "seen on white"),
        Finding("train/cat/8.jpg", "train", "cat", "CMYK", ""),
        Finding("train/eel", "train", "eel", "empty class", "no images"),
        Finding("val/eel", "val", "eel", "missing class", "the class is only in train, or has another name here"),
        Finding("train/fox", "train", "fox", "missing class", "the class is only in val, or has another name here"),
    }
    assert health.to_mend == {"unreadable": 1, "in another split": 1, "empty class": 1, "missing class": 2}
    rows = table(health)
    assert rows["unreadable"] == ["1", "0"]
    assert rows["largest short side"] == ["40", "90"]
    assert rows["skipped files"] == ["1 .txt, 1 without suffix", "1 hidden"]


def test_small_uneven_and_numbered_classes(tmp_path: Path) -> None:
    for name, count in (("1", 30), ("2", 3), ("10", 12)):
        for i in range(count):
            picture(tmp_path / "train" / name / f"{i}.png", seed=100 * int(name) + i, side=8)
        picture(tmp_path / "val" / name / "0.png", seed=100 * int(name) + 99, side=8)
    health = found(tmp_path)
    said = "class names are numbers and are sorted as text: label 1 is 10"
    assert health.findings == [
        Finding("train/2", "train", "2", "few images", "3 images, fewer than 10"),
        Finding("train", "train", "", "uneven classes", "30 images of 1, 3 of 2"),
        Finding("train", "train", "", "numbers sorted as text", said),
    ]
    assert not health.to_mend
    assert split_notices(data(tmp_path))[-1].startswith(f"The {said}; ")


def test_images_in_memory() -> None:
    pixels = np.random.default_rng(0).integers(256, size=(6, 32, 32, 3), dtype=np.uint8)
    pixels[3], pixels[5] = pixels[0], pixels[2]
    parts = [
        Part(
            name,
            ["a", "b"],
            [f"{name}/{i}" for i in range(3)],
            [0, 1, 0],
            lambda i, k=k: inspect_pixels(pixels[3 * k + i]),
        )
        for k, name in enumerate(("train", "test"))
    ]
    copies = [each[:4] for each in examine(parts).findings if each.finding == "in another split"]
    assert copies == [("test/0", "test", "a", "in another split"), ("test/2", "test", "a", "in another split")]


def test_grey_images_in_memory() -> None:
    """A grey digit has a twin only if the digit in three channels has."""
    options = {"train_copies": 1, "eval_copies": 1, "clutter": 0, "noise": 0}
    grey, colour = (examine(parts_of(ImageData("digits", channels=channels, **options))) for channels in (1, 3))
    assert grey.rows == colour.rows


@pytest.mark.parametrize(
    ("classes", "label"),
    [
        (["0", "1", "10", "2"], 2),
        (["img1", "img10", "img2"], 1),
        (["class 1 b", "class 10 b", "class 9 b"], 1),
        (["00", "01", "10"], None),
        (["n01440764", "n01443537", "n02979186"], None),
        (["0", "1", "2"], None),
        (["1", "10", "2", "cat"], None),
        (["a10", "b9"], None),
        (["10"], None),
        ([], None),
    ],
)
def test_numbers_that_are_sorted_as_text(classes: list[str], label: int | None) -> None:
    assert classes == sorted(classes)
    said = numbers_sorted_as_text(classes)
    assert said is None if label is None else f"label {label} is {classes[label]}" in str(said)


def test_training_says_that_images_are_in_two_splits(healthy: Path) -> None:
    shutil.copy(healthy / "train" / "cat" / "3.png", healthy / "val" / "cat" / "leak.png")
    (notice,) = split_notices(data(healthy))
    assert notice.startswith(
        "Images with the same content are in two splits (1), such as train/cat/3.png and val/cat/leak.png"
    )
