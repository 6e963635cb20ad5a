"""A run remembers its classes and held-out images: what is evaluated later is what was not trained on."""

import logging
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from ranet.data import ImageData
from ranet.data.checks.described import split_notices, split_table
from ranet.data.record import DataRecord
from ranet.errors import UserError


def image_data(folder: Path, **options: object) -> ImageData:
    return ImageData("imagefolder", root=folder, image_size=16, num_workers=0, **options)  # type: ignore[arg-type]


def followed(record: DataRecord, folder: Path, chosen_anew: bool = False, **options: object) -> ImageData:
    data = image_data(folder, **options)
    data.follow(record, chosen_anew)
    return data


def held_out(data: ImageData) -> set[str]:
    return set(data.record().held_out or ())  # type: ignore[arg-type]


def validation_images(data: ImageData) -> torch.Tensor:
    return torch.cat([images for images, _ in data.evaluation_loader("validation")])


def test_a_record_survives_a_checkpoint(folder: Path, tmp_path: Path) -> None:
    record = image_data(folder, validation_size=4).record()
    torch.save({"record": record.to_dict()}, tmp_path / "checkpoint")
    assert DataRecord.from_recipe(torch.load(tmp_path / "checkpoint", weights_only=True)) == record
    assert DataRecord.from_recipe({}) is None
    assert record.classes == ("cat", "dog")
    assert record.images == {"train": 8, "validation": 4, "test": 6}
    assert len(held_out(image_data(folder, validation_size=4))) == 4


def test_images_that_came_later_do_not_move_others_into_validation(folder: Path, tmp_path: Path) -> None:
    record = image_data(folder, validation_size=4).record()
    before = validation_images(image_data(folder, validation_size=4))
    for name in ("00.png", "0a.png", "9.png"):  # before, between and after the others
        Image.new("RGB", (30, 40)).save(folder / "train" / "cat" / name)
    assert held_out(image_data(folder, validation_size=4)) != set(record.held_out or ()), "a new draw is another"
    data = followed(record, folder, validation_size=4)
    assert torch.equal(validation_images(data), before)
    assert len(data.record().held_out or ()) == 4
    assert data.size("train") == 11
    # Wherever the data lie, and whatever else the command says of splits.
    moved = tmp_path / "elsewhere"
    shutil.copytree(folder / "train", moved / "train")
    shutil.copytree(folder / "val", moved / "val")
    assert torch.equal(validation_images(followed(record, moved, validation_size=2, split_seed=5)), before)


def test_validation_images_of_the_test_images(folder: Path) -> None:
    """All training images are trained on; half of the test images are held out of these, and stay so."""
    data = image_data(folder, validation_from="test")
    record = data.record()
    assert (record.images, record.held_out_of) == ({"train": 12, "validation": 3, "test": 3}, "test")
    names = {split: set(data.samples(split).names()) for split in ("train", "validation", "test")}  # type: ignore[union-attr]
    assert held_out(data) == names["validation"]
    assert names["validation"] | names["test"] == {
        path.relative_to(folder / "val").as_posix() for path in (folder / "val").rglob("*.png")
    }
    for options in ({}, {"validation_from": "train", "validation_size": 4, "split_seed": 3}):
        again = followed(record, folder, **options)
        assert set(again.samples("validation").names()) == names["validation"]  # type: ignore[union-attr]
        assert set(again.samples("test").names()) == names["test"]  # type: ignore[union-attr]
        assert again.size("train") == 12
    # Other data are split as the command says.
    other = image_data(folder, validation_size=4)
    other.follow(record, chosen_anew=True)
    assert (other.size("validation"), other.size("test")) == (4, 6)


def test_held_out_images_that_are_gone_are_said(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    record = image_data(folder, validation_size=4).record()
    names = sorted(held_out(image_data(folder, validation_size=4)))
    (folder / "train" / names[0]).unlink()
    data = followed(record, folder, validation_size=4)
    assert len(validation_images(data)) == 3
    assert "The validation images changed since the network was trained: 4 then, 3 now." in caplog.text
    assert "test images" not in caplog.text
    for name in names[1:]:
        (folder / "train" / name).unlink()
    with pytest.raises(UserError, match=r"that the run held out for validation are not in .*train; put them back"):
        followed(record, folder, validation_size=4).size("validation")


def test_test_images_that_changed_are_said(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    record = image_data(folder).record()
    shutil.copy(folder / "val" / "cat" / "0.png", folder / "val" / "dog" / "new.png")
    assert followed(record, folder).size("test") == 7
    assert "The test images changed since the network was trained: 6 then, 7 now." in caplog.text


def test_a_test_folder_that_came_later_changes_nothing(folder: Path) -> None:
    record, before = image_data(folder).record(), validation_images(image_data(folder))
    shutil.copytree(folder / "train", folder / "test")
    data = followed(record, folder)
    assert torch.equal(validation_images(data), before)
    assert data.size("test") == 6


def test_other_data_have_held_out_images_of_their_own(folder: Path, tmp_path: Path) -> None:
    record = image_data(folder, validation_size=4).record()
    other = tmp_path / "other"
    shutil.copytree(folder / "train", other / "train")
    shutil.copytree(folder / "val", other / "val")
    # The same images under another name of the folder: what was held out stays so.
    assert held_out(followed(record, other, chosen_anew=True, validation_size=6)) == set(record.held_out or ())
    (other / "train" / next(iter(record.held_out or ()))).unlink()  # type: ignore[operator]
    assert len(held_out(followed(record, other, chosen_anew=True, validation_size=6))) == 6


def test_renamed_classes_are_refused_and_reordered_ones_relabelled(folder: Path) -> None:
    record = image_data(folder).record()
    plain = [labels for _, labels in image_data(folder).evaluation_loader("test")]
    turned = replace(record, classes=("dog", "cat"))
    data = followed(turned, folder)
    assert data.class_names == ["dog", "cat"]
    assert [(1 - labels).tolist() for _, labels in data.evaluation_loader("test")] == [each.tolist() for each in plain]
    (folder / "val" / "cat").rename(folder / "val" / "zebra")
    data = followed(record, folder)
    with pytest.raises(UserError, match=r"val has other classes than the network .* \(missing: cat; new: zebra\)"):
        data.size("test")
    assert data.size("train") + data.size("validation") == 12, "that folder is as it was"


@pytest.mark.slow
def test_cifar_in_another_order_of_classes(cifar_root: Path) -> None:
    data = ImageData("cifar10", root=cifar_root)
    record, labels = data.record(), torch.cat([labels for _, labels in data.test_dataloader()])
    turned = ImageData("cifar10", root=cifar_root)
    turned.follow(replace(record, classes=record.classes[::-1]))
    assert torch.equal(torch.cat([labels for _, labels in turned.test_dataloader()]), 9 - labels)
    other = ImageData("cifar100", root=cifar_root)
    other.follow(record, chosen_anew=True)
    with pytest.raises(UserError, match=r"cifar100 has other classes .*missing: airplane, .* in all"):
        other.setup()


def test_what_a_resumed_run_refuses(folder: Path) -> None:
    record = image_data(folder).record()
    record.require_same(image_data(folder).record(), "runs/a")
    Image.new("RGB", (30, 40)).save(folder / "train" / "cat" / "9.png")
    with pytest.raises(UserError, match=r"train images changed since runs/a .*had 11, now there are 12"):
        record.require_same(image_data(folder).record(), "runs/a")
    (folder / "train" / "cat" / "9.png").unlink()
    for split in ("train", "val"):
        (folder / split / "cat").rename(folder / split / "zebra")
    with pytest.raises(UserError, match=r"The data of runs/a has other classes .*missing: cat; new: zebra"):
        record.require_same(image_data(folder).record(), "runs/a")


def test_numbers_of_each_split_and_class(folder: Path) -> None:
    assert split_table(image_data(folder, validation_size=4)) == [
        ("class", "train", "validation", "test"),
        ("cat", "4", "2", "3"),
        ("dog", "4", "2", "3"),
        ("all", "8", "4", "6"),
    ]
    assert split_notices(image_data(folder, validation_size=4)) == []


def test_what_is_odd_about_splits_is_said(folder: Path) -> None:
    assert "No images are held out for validation" in split_notices(image_data(folder, validation_size=0))[0]
    (unseen,) = split_notices(image_data(folder, validation_size=1))
    assert "has no validation images" in unseen
    (untrained,) = split_notices(image_data(folder, validation_size=4, train_limit=1))
    assert "has no training images, so the network cannot learn it" in untrained
    for split in ("train", "val"):
        shutil.rmtree(folder / split / "dog")
    assert "There is only one class (cat)" in split_notices(image_data(folder))[0]


def test_many_classes_are_summed_up(tmp_path: Path) -> None:
    for k in range(21):
        for split, count in (("train", 2 + k % 3), ("val", 1)):
            (tmp_path / split / f"{k:02}").mkdir(parents=True)
            for i in range(count):
                Image.new("RGB", (8, 8)).save(tmp_path / split / f"{k:02}" / f"{i}.png")
    rows = split_table(image_data(tmp_path, validation_size=0))
    assert rows[1:] == [("smallest class", "2", "0", "1"), ("largest class", "4", "0", "1"), ("all", "63", "0", "21")]
