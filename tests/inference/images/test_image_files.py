"""Images from files, folders and arrays: in order, ahead but not far, and the broken ones named."""

import io
import os
import re
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ranet.data.module import ImageData
from ranet.data.unlabelled import list_unlabelled, unlabelled_loader
from ranet.errors import UserError
from ranet.images.many import AHEAD, ahead
from ranet.images.preprocessing import Preprocessing
from ranet.inference.images.files import ImageArray, ImageFiles, ReadImage, default_readers, open_images

FOUR = Preprocessing(4, 4, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def png(width: int = 4, height: int = 4, seed: int = 0) -> bytes:
    pixels = np.random.default_rng(seed).integers(256, size=(height, width, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Nine images in folders within folders, and what is none."""
    for i, name in enumerate(["b/2.png", "b/10.PNG", "a.png", "b.png", "z/y/x.png", "B/1.png", "b-1/1.png", "ä.png"]):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(png(5 + i, 4, seed=i))
    (tmp_path / os.fsdecode(b"latin-\xe4.png")).write_bytes(png(6, 6))
    (tmp_path / "notes.txt").write_text("no image")
    return tmp_path


def read_ahead(source: ImageFiles | ImageArray, preprocessing: Preprocessing, threads: int) -> Iterator[ReadImage]:
    return ahead(lambda index: source.read(index, preprocessing), range(len(source)), threads)


def read_all(given: str | Path | Sequence[str | Path], preprocessing: Preprocessing = FOUR) -> list[ReadImage]:
    return list(read_ahead(open_images(given, preprocessing), preprocessing, threads=2))


def test_a_folder_is_read_as_the_evaluation_reads_it(folder: Path) -> None:
    listed = list_unlabelled(folder)
    source = open_images(folder, FOUR)
    assert isinstance(source, ImageFiles)
    assert source.paths == tuple(str(listed.path(i)) for i in range(len(listed)))
    assert len(source) == 9
    data = ImageData("cifar10", num_workers=0, loader="workers")
    ((expected, _),) = unlabelled_loader(folder, data)
    found = read_all(folder, Preprocessing(32, 32, data.facts.mean, data.facts.std))
    np.testing.assert_array_equal(np.stack([image.pixels for image in found if image.pixels is not None]), expected)
    assert [image.name for image in found] == list(source.paths)


def test_files_and_folders_may_be_listed(folder: Path) -> None:
    names = [folder / "z", folder / "b.png", folder / "a.png"]
    paths = [str(folder / "z" / "y" / "x.png"), str(folder / "b.png"), str(folder / "a.png")]
    assert [image.name for image in read_all(names)] == paths
    assert [image.name for image in read_all([*names[1:], *names[1:]])] == [*paths[1:], *paths[1:]]
    # A file that is named is an image whatever its name.
    (folder / "picture").write_bytes(png())
    assert [image.error for image in read_all(str(folder / "picture"))] == [None]


def test_names_lie_where_they_were_looked_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    source = open_images("b", FOUR)
    assert isinstance(source, ImageFiles)
    assert source.paths == ("b/10.PNG", "b/2.png")
    assert read_all("./z")[0].name == "z/y/x.png"


def test_broken_images_are_named_and_the_others_read(tmp_path: Path) -> None:
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"
    broken = {
        "cut": (png(40, 40)[:2000], r"cannot be read as an image \(.*truncated.*\)"),
        "empty": (b"", r"cannot be read as an image \(it is empty, damaged, or of no known format\)"),
        "postscript": (postscript, "is in the PostScript format, which is not read; save it as JPEG or PNG"),
        "thin": (png(1, 300), "is 1 x 300 pixels, too long and thin for a central square"),
    }
    for name, (content, _) in broken.items():
        (tmp_path / f"{name}.png").write_bytes(content)
    (tmp_path / "good.png").write_bytes(png())
    (tmp_path / "nowhere.png").symlink_to(tmp_path / "gone.png")
    found = {Path(image.name).stem: image for image in read_all(tmp_path)}
    expected = {name: message for name, (_, message) in broken.items()}
    expected["nowhere"] = r"cannot be read as an image \(No such file or directory\)"
    assert set(found) == {*expected, "good"}
    assert found["good"].error is None
    for name, message in expected.items():
        image = found[name]
        assert image.pixels is None
        assert image.error is not None
        assert re.fullmatch(f"{re.escape(str(tmp_path / name))}.png {message}.", image.error)


def test_what_is_passed_over_is_counted(folder: Path) -> None:
    for name in ("._a.png", "b/.hidden.png", "b/Thumbs.db", "__MACOSX/a.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(png())
    source = open_images([folder, folder / "b"], FOUR)
    assert isinstance(source, ImageFiles)
    assert len(source) == 9 + 2
    assert source.skipped == "3 hidden, 2 Thumbs.db, 1 .txt, 1 __MACOSX"
    # One that is named alone is an image whatever its name.
    assert read_all(folder / "._a.png")[0].error is None


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "good.png").write_bytes(png())
    for name in ("pipe.png", "pipe.npy"):
        os.mkfifo(tmp_path / name)
    source = open_images(tmp_path, FOUR)
    found: list[ReadImage] = []
    thread = threading.Thread(target=lambda: found.extend(source.read(i, FOUR) for i in range(2)), daemon=True)
    thread.start()
    thread.join(20)
    assert [image.error for image in found] == [
        None,
        f"{tmp_path / 'pipe.png'} is not a regular file.",
    ]
    with pytest.raises(UserError, match=r"pipe.npy is not a regular file; write the array with numpy.save"):
        open_images(tmp_path / "pipe.npy", FOUR)


def test_links_in_circles_and_closed_folders(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = open_images(folder, FOUR)
    (folder / "again").symlink_to(".")
    (folder / "b" / "up").symlink_to(folder)
    assert open_images(folder, FOUR) == expected
    scan = os.scandir

    def refusing(path: str | Path) -> Any:
        if Path(path).name in ("B", "z"):  # the super-user may read any
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refusing)
    source = open_images(folder, FOUR)
    assert len(source) == 7
    closed = [folder / "B", folder / "z"]
    assert source.left_out == tuple(f"The folder {path} cannot be read (Permission denied)." for path in closed)
    with pytest.raises(UserError, match=r"^The folder .*/z cannot be read \(Permission denied\)\.$"):
        open_images(folder / "z", FOUR)


@pytest.mark.parametrize("first", [False, True])
def test_pixels_in_an_array_are_those_of_files(first: bool, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(256, size=(5, 9, 7, 3), dtype=np.uint8)
    np.save(tmp_path / "pixels.npy", pixels.transpose(0, 3, 1, 2) if first else pixels)
    found = read_all(tmp_path / "pixels.npy")
    assert [image.name for image in found] == ["0", "1", "2", "3", "4"]
    for image, each in zip(found, pixels, strict=True):
        assert image.pixels is not None
        np.testing.assert_array_equal(image.pixels, FOUR(Image.fromarray(each)))


@pytest.mark.parametrize("first", [False, True])
def test_grey_pixels_in_an_array(first: bool, tmp_path: Path) -> None:
    grey = Preprocessing((4, 6), (4, 6), (0.5,), (0.25,))
    pixels = np.random.default_rng(0).integers(256, size=(5, 4, 6), dtype=np.uint8)
    np.save(tmp_path / "pixels.npy", pixels[:, None] if first else pixels[..., None])
    expected = (pixels[:, None].astype(np.float64) / 255 - 0.5) / 0.25
    found = read_all(tmp_path / "pixels.npy", grey)
    seen = np.stack([image.pixels for image in found if image.pixels is not None])
    np.testing.assert_allclose(seen, expected, atol=1e-6)
    np.save(tmp_path / "ready.npy", expected.astype(np.float32))
    (ready, *_) = read_all(tmp_path / "ready.npy", grey)
    np.testing.assert_array_equal(ready.pixels, expected[0].astype(np.float32))
    for wrong in (np.zeros((5, 4, 6, 3), np.uint8), np.zeros((5, 1, 6, 4), np.float32)):
        np.save(tmp_path / "wrong.npy", wrong)
        with pytest.raises(UserError, match=r"uint8 \(N, H, W, 1\) or \(N, 1, H, W\), .* float32 \(N, 1, 4, 6\)\.$"):
            open_images(tmp_path / "wrong.npy", grey)


def test_normalised_images_pass_unless_they_are_not_finite(tmp_path: Path) -> None:
    images = torch.randn(6, 3, 4, 4, generator=torch.Generator().manual_seed(0)).numpy()
    images[2, 1, 0, 3], images[4, 0, 0, 0] = np.nan, np.inf
    np.save(tmp_path / "images.npy", np.asfortranarray(images))
    source = open_images(str(tmp_path / "images.npy"), FOUR)
    assert isinstance(source, ImageArray)
    assert isinstance(source.images, np.memmap)
    found = list(read_ahead(source, FOUR, threads=3))
    for i, image in enumerate(found):
        if i in (2, 4):
            assert image.error == f"Image {i} of {tmp_path / 'images.npy'} holds NaN or infinities."
        else:
            assert image.pixels is not None
            assert image.pixels.flags.c_contiguous
            np.testing.assert_array_equal(image.pixels, images[i])


def test_what_is_no_array_of_images_is_refused(tmp_path: Path) -> None:
    for i, array in enumerate(
        [
            np.zeros((2, 4, 4), np.uint8),
            np.zeros((2, 4, 4, 1), np.uint8),
            np.zeros((2, 0, 4, 3), np.uint8),
            np.zeros((2, 3, 4, 4), np.float64),
            np.zeros((2, 4, 4, 3), np.float32),
            np.zeros((2, 3, 5, 5), np.float32),
            np.zeros((3, 4, 4), np.float32),
            np.zeros((2, 3, 4, 4), np.int64),
            np.float32(3),
        ]
    ):
        np.save(tmp_path / f"{i}.npy", array)
        with pytest.raises(
            UserError, match=rf"{i}.npy holds {array.dtype} \(.*; it must hold pixels as uint8 .*4, 4\)"
        ):
            open_images(tmp_path / f"{i}.npy", FOUR)
    np.save(tmp_path / "none.npy", np.zeros((0, 4, 4, 3), np.uint8))
    np.save(tmp_path / "objects.npy", np.array([{}, print], dtype=object), allow_pickle=True)
    np.save(tmp_path / "whole.npy", np.zeros((9, 4, 4, 3), np.uint8))
    (tmp_path / "cut.npy").write_bytes((tmp_path / "whole.npy").read_bytes()[:-9])
    (tmp_path / "empty.npy").touch()
    np.savez(tmp_path / "several.npz", a=np.zeros(3))
    (tmp_path / "several.npz").rename(tmp_path / "several.npy")
    (tmp_path / "folder.npy").mkdir()
    for name, message in {
        "none": "holds no image",
        "objects": "is not a complete array of numbers; write it with numpy.save",
        "cut": "is not a complete array of numbers",
        "empty": "is not a complete array of numbers",
        "several": "holds several arrays",
        "folder": "cannot be read",
        "nowhere": "There is no array",
    }.items():
        with pytest.raises(UserError, match=message) as refused:
            open_images(tmp_path / f"{name}.npy", FOUR)
        assert "\n" not in str(refused.value)


def test_places_without_images_are_refused(folder: Path) -> None:
    (folder / "empty" / "inside").mkdir(parents=True)
    np.save(folder / "array.npy", np.zeros((1, 4, 4, 3), np.uint8))
    for given, message in (
        (folder / "nowhere", r"There is no folder and no image .*nowhere; give the path of the images"),
        ([folder / "a.png", folder / "nowhere"], r"There is no folder and no image"),
        (folder / "empty", r"holds no image \(.jpg, "),
        ([folder / "a.png", folder / "array.npy"], "is an array of images; give it alone"),
        ([], "There are no images"),
    ):
        with pytest.raises(UserError, match=message):
            open_images(given, FOUR)


def test_reading_is_ahead_but_not_far_and_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[int] = []
    lock = threading.Lock()

    def read(self: ImageFiles, index: int, preprocessing: Preprocessing) -> ReadImage:
        with lock:
            begun.append(index)
        time.sleep(0.02 if index % 3 == 0 else 0.0)  # later ones are done sooner
        return ReadImage(self.paths[index], None, "none")

    monkeypatch.setattr(ImageFiles, "read", read)
    source = ImageFiles(tuple(map(str, range(100))))
    images = read_ahead(source, FOUR, threads=2)
    taken = [next(images).name for _ in range(10)]
    time.sleep(0.2)
    assert taken == [str(i) for i in range(10)]
    # Ten were taken, and beyond them at most as many are read as wait.
    assert 10 < len(begun) <= 10 + AHEAD * 2
    assert [image.name for image in images] == [str(i) for i in range(10, 100)]
    assert sorted(begun) == list(range(100))
    # Who stops listening leaves no thread behind.
    images = read_ahead(source, FOUR, threads=2)
    next(images)
    images.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ranet-images")]


def test_readers_follow_the_cores() -> None:
    assert 1 <= default_readers() <= 8
