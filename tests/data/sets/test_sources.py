import logging
from pathlib import Path

import pytest
import torch
from PIL import Image
from torchvision.datasets import CIFAR10, CIFAR100

from ranet.data.sets.catalogue import CATALOGUE
from ranet.data.sets.sources import TensorSet, download_cifar, list_classes, list_images, load_cifar
from ranet.errors import UserError


@pytest.mark.parametrize(("name", "kind"), [("cifar10", CIFAR10), ("cifar100", CIFAR100)])
@pytest.mark.slow
def test_cifar_is_torchvisions(cifar_root: Path, name: str, kind: type[CIFAR10]) -> None:
    train, test = load_cifar(name, cifar_root)
    assert (len(train), len(test)) == (50_000, 10_000)
    expected = kind(cifar_root, train=False)
    assert torch.equal(test.images, torch.from_numpy(expected.data).permute(0, 3, 1, 2))
    assert test.labels.tolist() == expected.targets
    assert expected.classes == list(CATALOGUE[name].class_names or ())
    for channel, mean, std in zip(range(3), CATALOGUE[name].mean, CATALOGUE[name].std, strict=True):
        histogram = torch.bincount(train.images[:, channel].flatten(), minlength=256).double()
        histogram, level = histogram / histogram.sum(), torch.arange(256) / 255
        measured = (histogram * level).sum()
        assert measured.item() == pytest.approx(mean, abs=3e-4)
        assert (histogram * (level - measured) ** 2).sum().sqrt().item() == pytest.approx(std, abs=3e-4)


def test_cifar_missing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no cifar10 at .*set data.root or RANET_DATA .*data.download=true"):
        load_cifar("cifar10", tmp_path)
    (tmp_path / "cifar-10-batches-py").mkdir()
    with pytest.raises(UserError, match="data_batch_1 is missing"):
        load_cifar("cifar10", tmp_path)


def test_cifar_damaged(tmp_path: Path) -> None:
    (tmp_path / "cifar-100-python").mkdir()
    (tmp_path / "cifar-100-python" / "train").write_bytes(b"half a download")
    with pytest.raises(UserError, match="train is damaged"):
        load_cifar("cifar100", tmp_path)


def test_failing_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(self: CIFAR10) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(CIFAR10, "download", offline)
    with pytest.raises(UserError, match=r"Downloading cifar10 .* failed \(no route to host\)"):
        download_cifar("cifar10", tmp_path)


def test_digests_and_subsets_in_memory() -> None:
    samples = TensorSet(
        torch.arange(24, dtype=torch.uint8).view(2, 3, 2, 2), torch.tensor([0, 1]), torch.tensor([9, 8])
    )
    assert samples.digest() == samples.subset(torch.tensor([0, 1])).digest()
    swapped = samples.subset(torch.tensor([1, 0]))
    assert swapped.digest() != samples.digest()
    assert swapped.labels.tolist() == [1, 0]
    assert swapped.sizes is not None
    assert swapped.sizes.tolist() == [8, 9]


def test_image_files(folder: Path) -> None:
    (folder / "train" / "cat" / "notes.txt").write_text("no image")
    (folder / "train" / ".hidden").mkdir()
    (folder / "train" / "dog" / "more").mkdir()
    Image.new("RGB", (8, 8)).save(folder / "train" / "dog" / "more" / "größer.JPEG")
    classes = list_classes(folder / "train")
    assert classes == ["cat", "dog"]
    samples = list_images(folder / "train", classes)
    assert samples.labels.tolist() == [0] * 6 + [1] * 7
    assert samples.path(0) == folder / "train" / "cat" / "0.png"
    assert samples.path(12) == folder / "train" / "dog" / "more" / "größer.JPEG"
    few = samples.subset(torch.tensor([12, 1]))
    assert few.path(0).is_file()
    assert few.labels.tolist() == [1, 0]


def test_what_is_passed_over_is_counted_and_said(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in (
        "train/__MACOSX/cat/a.png",
        "train/.ipynb_checkpoints/a.png",
        "train/cat/._0.png",
        "val/dog/Thumbs.db",
    ):
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).touch()
    for name in ("train/cat/notes.txt", "val/cat/more.txt", "train/README"):
        (folder / name).touch()
    classes = list_classes(folder / "train")
    assert classes == ["cat", "dog"]
    with caplog.at_level(logging.INFO, "ranet"):
        assert [len(list_images(folder / part, classes)) for part in ("train", "val")] == [12, 6]
    assert [record.getMessage() for record in caplog.records] == [
        f"Skipped in {folder / 'train'}: 2 hidden, 1 .txt, 1 __MACOSX, 1 without suffix.",
        f"Skipped in {folder / 'val'}: 1 .txt, 1 Thumbs.db.",
    ]


def test_the_digest_of_files_does_not_depend_on_where_they_lie(folder: Path) -> None:
    before = list_images(folder / "val", ["cat", "dog"]).digest()
    moved = folder.with_name("moved")
    folder.rename(moved)
    assert list_images(moved / "val", ["cat", "dog"]).digest() == before
    Image.new("RGB", (8, 8)).save(moved / "val" / "cat" / "0.png")
    assert list_images(moved / "val", ["cat", "dog"]).digest() != before


def test_folders_that_do_not_agree(folder: Path) -> None:
    with pytest.raises(UserError, match=r"There is no folder .*/test; set data.root"):
        list_classes(folder / "test")
    with pytest.raises(UserError, match="holds no folders"):
        list_classes(folder / "train" / "cat")
    with pytest.raises(UserError, match=r"must have the same classes, but differ in 2: cow, dog\."):
        list_images(folder / "val", ["cat", "cow"])
    (folder / "val" / "empty").mkdir()
    with pytest.raises(UserError, match=r"val/empty holds no image \(.jpg"):
        list_images(folder / "val", ["cat", "dog", "empty"])
