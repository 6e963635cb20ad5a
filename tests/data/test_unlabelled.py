import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ranet.data import ImageData
from ranet.data.unlabelled import list_unlabelled, unlabelled_loader
from ranet.errors import UserError


def picture(path: Path, height: int, width: int, seed: int = 0) -> np.ndarray:
    """Write an image of noise; its pixels."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return pixels


def test_images_are_found_in_all_folders_and_sorted(tmp_path: Path) -> None:
    names = ["b.png", "a/z.PNG", "a/b/c.bmp", "Z.png"]
    for name in names:
        picture(tmp_path / name, 8, 8)
    (tmp_path / "notes.txt").write_text("no image")
    files = list_unlabelled(tmp_path)
    assert [str(files.path(i).relative_to(tmp_path)) for i in range(len(files))] == sorted(names)
    assert not files.labels.any()


def test_links_in_circles_and_closed_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture(tmp_path / "closed" / "a.png", 8, 8)
    (tmp_path / "again").symlink_to(".")
    assert len(list_unlabelled(tmp_path)) == 1
    scan = os.scandir

    def refusing(path: str | Path) -> Any:
        if Path(path).name == "closed":  # the super-user may read any
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refusing)
    picture(tmp_path / "b.png", 8, 8)
    with pytest.raises(UserError, match=r"The folder .*/closed cannot be read \(Permission denied\); make it readable"):
        list_unlabelled(tmp_path)


def test_one_image_is_enough(tmp_path: Path) -> None:
    picture(tmp_path / "one.png", 8, 8)
    picture(tmp_path / "other.png", 8, 8)
    files = list_unlabelled(tmp_path / "one.png")
    assert (len(files), files.path(0)) == (1, tmp_path / "one.png")


@pytest.mark.parametrize("name", ["cifar10", "digits"])
def test_images_of_the_own_size_come_as_stored(name: str, tmp_path: Path) -> None:
    pixels = picture(tmp_path / "own.png", 32, 32)
    data = ImageData(name)
    ((images, labels),) = unlabelled_loader(tmp_path, data)
    expected = (
        torch.from_numpy(pixels).permute(2, 0, 1) / 255 - torch.tensor(data.facts.mean).view(3, 1, 1)
    ) / torch.tensor(data.facts.std).view(3, 1, 1)
    torch.testing.assert_close(images[0], expected, rtol=0, atol=1e-5)
    assert labels.tolist() == [0]


def test_digits_are_seen_as_the_test_split_sees_them(tmp_path: Path) -> None:
    data = ImageData("digits", train_copies=1, eval_copies=1, eval_batch_size=7)
    for i, image in enumerate(data.test_images(range(20))):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(tmp_path / f"{i:03}.png")
    batches = list(unlabelled_loader(tmp_path, data))
    assert [len(images) for images, _ in batches] == [7, 7, 6]
    expected = torch.cat([images for images, _ in data.test_dataloader()])[:20]
    assert torch.equal(torch.cat([images for images, _ in batches]), expected)


def test_images_of_other_sizes_are_resized_by_the_short_side_and_cropped(tmp_path: Path) -> None:
    # Three stripes of one colour, 64 pixels each, in a picture of 64 x 192: resized to 32 x 96, the middle remains.
    stripes = np.repeat(np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], dtype=np.uint8), 64, axis=1).repeat(
        64, axis=0
    )
    Image.fromarray(stripes).save(tmp_path / "wide.png")
    Image.fromarray(stripes.transpose(1, 0, 2)).save(tmp_path / "tall.png")
    data = ImageData("cifar10")
    ((images, _),) = unlabelled_loader(tmp_path, data)
    assert images.shape == (2, 3, 32, 32)
    middle = images[:, :, 3:-3, 3:-3] * torch.tensor(data.facts.std).view(3, 1, 1) + torch.tensor(data.facts.mean).view(
        3, 1, 1
    )
    green = torch.tensor([0.0, 1.0, 0.0]).view(3, 1, 1).expand_as(middle)
    torch.testing.assert_close(middle, green, rtol=0, atol=0.02)


def test_folders_are_seen_through_their_evaluation_transform(folder: Path, tmp_path: Path) -> None:
    data = ImageData("imagefolder", root=folder, image_size=24, num_workers=0, validation_size=2)
    ((expected, _),) = data.test_dataloader()
    loader = unlabelled_loader(folder / "val", data)
    ((images, labels),) = loader
    assert torch.equal(images, expected)
    assert not labels.any()
    assert loader.num_workers == 0


@pytest.mark.parametrize("mode", ["L", "RGBA", "P"])
def test_images_of_any_mode_are_read(mode: str, tmp_path: Path) -> None:
    Image.new("RGB", (40, 30), (255, 0, 0)).convert(mode).save(tmp_path / "image.png")
    ((images, _),) = unlabelled_loader(tmp_path, ImageData("cifar10"))
    assert images.shape == (1, 3, 32, 32)


def test_grey_images_that_are_not_square(folder: Path, tmp_path: Path) -> None:
    """Against arithmetic by hand: shrunk to a width of 46 of which, as of 34 rows, the middle is cut out."""
    grey = {"image_size": [28, 40], "channels": 1, "mean": [0.5], "std": [0.25]}
    data = ImageData("imagefolder", folder, num_workers=0, validation_size=2, **grey)
    ((expected, _),) = data.test_dataloader()
    ((images, _),) = unlabelled_loader(folder / "val", data)
    assert torch.equal(images, expected)
    shown = data.test_images([0])[0]
    for image, path in zip(images, sorted((folder / "val").rglob("*.png")), strict=True):
        red, green, blue = np.asarray(Image.open(path), dtype=np.int64).transpose(2, 0, 1)
        grey = (red * 19595 + green * 38470 + blue * 7471 + 2**15) // 2**16
        resized = Image.fromarray(grey.astype(np.uint8)).resize((46, 34), Image.Resampling.BILINEAR)
        by_hand = np.asarray(resized)[3:31, 3:43]
        torch.testing.assert_close(image[0], torch.from_numpy((by_hand / 255 - 0.5) / 0.25).float(), rtol=0, atol=1e-6)
        if path.name == "0.png" and path.parent.name == "cat":
            np.testing.assert_array_equal(shown[0].numpy(), by_hand)
    for batch, _ in data.train_dataloader():
        assert batch.shape[1:] == (1, 28, 40)


@pytest.mark.parametrize("loader", ["device", "workers"])
def test_grey_digits_on_wide_canvases(loader: str) -> None:
    workers = {"num_workers": 0} if loader == "workers" else {}
    options = {"loader": loader, "image_size": [28, 40], "train_copies": 1, "eval_copies": 1, **workers}
    data = ImageData("digits", channels=1, erasing=0.5, **options)
    images, _ = next(iter(data.train_dataloader()))
    assert images.shape == (64, 1, 28, 40)
    colour = ImageData("digits", image_size=[28, 40], train_copies=1, eval_copies=1)
    assert torch.equal(data.test_images(range(9)), colour.test_images(range(9))[:, :1])
    assert data.fingerprint("test") != colour.fingerprint("test")


def test_mistakes_are_named(tmp_path: Path) -> None:
    data = ImageData("cifar10")
    with pytest.raises(UserError, match=r"There is no folder and no image .*/nowhere; "):
        unlabelled_loader(tmp_path / "nowhere", data)
    (tmp_path / "empty" / "inside").mkdir(parents=True)
    with pytest.raises(UserError, match=r"/empty holds no image \(.jpg, "):
        unlabelled_loader(tmp_path / "empty", data)
    (tmp_path / "empty" / "broken.jpg").write_text("no image")
    with pytest.raises(UserError, match=r"broken.jpg cannot be read as an image"):
        list(unlabelled_loader(tmp_path / "empty", data))


@pytest.mark.parametrize("num_workers", [0, 1])
def test_what_cannot_be_read_is_left_out_on_request(num_workers: int, tmp_path: Path) -> None:
    for i in range(5):
        picture(tmp_path / f"{i}.png", 32, 32, seed=i)
    for name in ("1", "4"):
        (tmp_path / f"{name}.png").write_text("no image")
    data = ImageData("cifar10", loader="workers", num_workers=num_workers, eval_batch_size=2)
    left_out: list[UserError] = []
    batches = list(unlabelled_loader(tmp_path, data, left_out))
    # The last batch had one image, which is broken.
    assert [len(images) for images, _ in batches] == [1, 2]
    whole = [torch.cat([images for images, _ in unlabelled_loader(tmp_path / f"{i}.png", data)]) for i in (0, 2, 3)]
    assert torch.equal(torch.cat([images for images, _ in batches]), torch.cat(whole))
    assert [str(error).split(" ")[0] for error in left_out] == [f"{tmp_path / name}.png" for name in ("1", "4")]


def test_a_file_that_is_named_is_an_image_whatever_its_name(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", 32, 32)
    (tmp_path / "a.png").rename(tmp_path / ".photo")
    ((images, _),) = unlabelled_loader(tmp_path / ".photo", ImageData("cifar10", loader="workers", num_workers=0))
    assert len(images) == 1
