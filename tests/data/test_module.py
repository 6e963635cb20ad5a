import hashlib
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import yaml
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image

from ranet.data import ImageData
from ranet.data.loading.device_loader import DeviceLoader
from ranet.data.loading.worker_loader import WorkerLoader
from ranet.data.sets.catalogue import CATALOGUE
from ranet.errors import UserError

CONF = Path(__file__).parents[2] / "conf" / "data"


def digits(**options: Any) -> ImageData:
    few = {"train_copies": 1, "eval_copies": 1, "clutter": 0, "noise": 0}
    return ImageData("digits", **{**few, **options})


class Probe(pl.LightningModule):
    """A linear classifier that remembers what it was trained on."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(3 * 32 * 32, 10)
        self.seen: list[torch.Tensor] = []

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], index: int) -> torch.Tensor:
        images, labels = batch
        self.seen.append(images.mean((1, 2, 3)))
        return torch.nn.functional.cross_entropy(self.linear(images.flatten(1)), labels)

    def validation_step(self, batch: tuple[torch.Tensor, torch.Tensor], index: int) -> None:
        self.log("validated", 1.0)

    def test_step(self, batch: tuple[torch.Tensor, torch.Tensor], index: int) -> None:
        self.log("tested", 1.0)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


def trainer(**options: Any) -> pl.Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False, "accelerator": "cpu"}
    return pl.Trainer(**{**quiet, "enable_checkpointing": False, **options})


@pytest.mark.slow
@pytest.mark.parametrize("loader", ["device", "workers"])
def test_a_canvas_of_stored_images_holds_them_normalised_in_several_ways(loader: str) -> None:
    ways: list[dict[str, Any]] = [{"mean": [0.5] * 3, "std": [0.5] * 3}, {"mean": [0.1, 0.2, 0.3]}]
    workers = {"num_workers": 0} if loader == "workers" else {}
    parts = [digits(loader=loader, **workers, **{key: way[key] for key in way}) for way in ways]
    both = digits(loader=loader, **workers, preprocessing=ways)
    assert both.image_size == (64, 32)
    images, labels = next(iter(both.test_dataloader()))
    for i, part in enumerate(parts):
        own, same = next(iter(part.test_dataloader()))
        assert images[:, :, 32 * i : 32 * i + 32].equal(own)
        assert labels.equal(same)
    assert both.fingerprint("test") not in {part.fingerprint("test") for part in parts}
    # A single way is the same as the options.
    alone = digits(loader=loader, **workers, preprocessing=ways[:1])
    assert next(iter(alone.test_dataloader()))[0].equal(next(iter(parts[0].test_dataloader()))[0])
    with pytest.raises(UserError, match="is for evaluation"):
        both.train_dataloader()


def test_a_canvas_of_files_holds_them_in_several_sizes(imagenette: Path) -> None:
    options: dict[str, Any] = {"root": imagenette, "num_workers": 0, "eval_batch_size": 4}
    both = ImageData("imagefolder", preprocessing=[{"image_size": 24}, {"image_size": [16, 40]}], **options)
    images, _ = next(iter(both.test_dataloader()))
    assert images.shape == (4, 3, 40, 40)
    for size, row, (height, width) in ((24, 0, (24, 24)), ([16, 40], 24, (16, 40))):
        own, _ = next(iter(ImageData("imagefolder", image_size=size, **options).test_dataloader()))
        assert images[:, :, row : row + height, :width].equal(own)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"image_size": 24}, "evaluated as stored, with 32 pixels, not 24"),
        ({"crop": 3}, r"must have only image_size, resize, mean, std, interpolation"),
        ({"interpolation": "nearest"}, "interpolation=nearest must be bilinear or bicubic"),
    ],
)
def test_a_bad_preprocessing_is_refused(part: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        digits(preprocessing=[part])


def test_half_of_cifars_test_images_can_be_the_validation_images(cifar_root: Path) -> None:
    data = ImageData("cifar10", root=cifar_root, validation_from="test")
    assert [data.size(split) for split in ("train", "validation", "test")] == [50_000, 5_000, 5_000]
    assert data.images_per_class("validation").tolist() == [500] * 10
    together = torch.cat([data.samples(split).images for split in ("validation", "test")])  # type: ignore[union-attr]
    whole = ImageData("cifar10", root=cifar_root).samples("test").images  # type: ignore[union-attr]
    assert together.sum() == whole.sum()
    assert data.fingerprint("validation") != data.fingerprint("test")


def test_cifar10(cifar_root: Path) -> None:
    data = ImageData("cifar10", root=cifar_root)
    assert (data.num_classes, data.image_size, data.class_names[3]) == (10, 32, "cat")
    assert (data.facts.mean, data.facts.std) == ((0.4914, 0.4824, 0.4467), (0.2471, 0.2435, 0.2616))
    data.prepare_data()
    data.setup("fit")
    validation = data.val_dataloader()
    assert isinstance(validation, DeviceLoader)
    assert (len(data.train_dataloader()), len(validation), len(data.test_dataloader())) == (704, 10, 20)
    assert next(iter(data.train_dataloader()))[0].shape == (64, 3, 32, 32)
    assert data.test_sizes is None
    assert data.val_sizes is None
    assert data.test_images([5, 2]).shape == (2, 3, 32, 32)
    # Policies refer to these; they may change only together with the data, the split or the transform.
    assert data.fingerprint("validation") == "8dfc83d4ae33d4bd"
    assert data.fingerprint("test") == "3fe21655b4e6510c"


def test_imagenette(imagenette: Path) -> None:
    data = ImageData("imagefolder", root=imagenette, image_size=64, batch_size=8, num_workers=0, validation_size=4)
    assert data.num_classes == 3
    assert data.class_names == sorted(path.name for path in (imagenette / "train").iterdir())
    data.setup()
    images, labels = next(iter(data.train_dataloader()))
    assert images.shape == (8, 3, 64, 64)
    assert (len(data.train_dataloader()), len(data.val_dataloader()), len(data.test_dataloader())) == (4, 1, 1)
    images, labels = next(iter(data.test_dataloader()))
    assert labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    shown = data.test_images(torch.tensor([0, 11]))
    assert shown.dtype == torch.uint8
    scaled = (shown / 255 - torch.tensor(data.facts.mean).view(3, 1, 1)) / torch.tensor(data.facts.std).view(3, 1, 1)
    torch.testing.assert_close(images[[0, 11]], scaled, rtol=1e-4, atol=1e-5)


def test_a_test_folder_makes_val_the_validation_set(folder: Path) -> None:
    (folder / "test" / "cat").mkdir(parents=True)
    (folder / "test" / "dog").mkdir()
    for name in ("cat", "dog"):
        Image.new("RGB", (30, 30)).save(folder / "test" / name / "0.png")
    data = ImageData("imagefolder", root=folder, image_size=16, num_workers=0, batch_size=1, eval_batch_size=1)
    assert (len(data.train_dataloader()), len(data.val_dataloader()), len(data.test_dataloader())) == (12, 6, 2)
    with pytest.raises(UserError, match="has a test folder"):
        ImageData("imagefolder", root=folder, validation_size=0.1).setup()


def test_digits_know_their_sizes() -> None:
    data = digits(eval_copies=2)
    data.setup("test")
    assert data.test_sizes is not None
    assert data.val_sizes is not None
    assert len(data.test_sizes) == 2 * 449
    assert len(data.val_sizes) == 2 * 135
    # In the order of the loader: small digits have less ink.
    ink = torch.cat([images.mean((1, 2, 3)) for images, _ in data.test_dataloader()])
    assert torch.corrcoef(torch.stack([ink, data.test_sizes.float()]))[0, 1] > 0.8
    assert torch.equal(data.test_images([3]), data.samples("test").images[3:4])  # type: ignore[union-attr]


def test_splits_follow_the_split_seed_and_batches_the_seed() -> None:
    base, other_order, other_split = digits(), digits(seed=1), digits(split_seed=1)
    assert base.fingerprint("validation") == other_order.fingerprint("validation")
    assert base.fingerprint("validation") != other_split.fingerprint("validation")
    first, second = (next(iter(data.train_dataloader()))[1] for data in (base, other_order))
    assert not torch.equal(first, second)


def test_fingerprints_differ_where_they_must() -> None:
    marks = {digits().fingerprint(split) for split in ("train", "validation", "test")}
    marks |= {digits(image_size=40).fingerprint("test"), digits(validation_size=0.2).fingerprint("validation")}
    marks |= {digits(train_limit=100).fingerprint("train")}
    assert len(marks) == 6
    assert digits(batch_size=3, train_limit=100).fingerprint("test") in marks


def test_training_on_few() -> None:
    data = digits(train_limit=100)
    assert sum(len(labels) for _, labels in data.train_dataloader()) == 100
    with pytest.raises(UserError, match="train_limit=5000 is more than the 1213 training images"):
        digits(train_limit=5000).setup()


def test_validation_sees_the_evaluation_transform() -> None:
    data = digits()
    validation = data.val_dataloader()
    assert isinstance(validation, DeviceLoader)
    assert validation.sampler.seed is None
    first, second = (torch.cat([images for images, _ in validation]) for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize("loader", ["device", "workers"])
def test_a_part_of_a_split_is_that_part_of_its_batches(loader: str) -> None:
    workers = {"num_workers": 0} if loader == "workers" else {}
    data = digits(loader=loader, eval_batch_size=50, **workers)
    images, labels = map(torch.cat, zip(*data.test_dataloader(), strict=True))
    for part in (None, slice(100), slice(7, 300, 3), torch.tensor([5, 2, 2, 448]), torch.arange(449) % 2 == 0):
        chosen = data.evaluation_loader("test", part)
        seen, known = map(torch.cat, zip(*chosen, strict=True))
        expected = slice(None) if part is None else part
        assert torch.equal(seen, images[expected])
        assert torch.equal(known, labels[expected])
        assert len(chosen) == -(-len(known) // 50)
    # It can be entered anywhere, as every epoch can.
    part = data.evaluation_loader("test", slice(60, 449))
    part.load_state_dict({"given": 2})
    assert torch.equal(torch.cat([images for images, _ in part]), images[160:])


def test_training_images_are_seen_as_they_are() -> None:
    data = digits(train_limit=100, eval_batch_size=30)
    first, second = (torch.cat([images for images, _ in data.evaluation_loader("train")]) for _ in range(2))
    assert len(first) == 100
    assert torch.equal(first, second)
    shown = data.samples("train").images.float() / 255  # type: ignore[union-attr]
    expected = (shown - torch.tensor(data.facts.mean).view(3, 1, 1)) / torch.tensor(data.facts.std).view(3, 1, 1)
    torch.testing.assert_close(first, expected, rtol=1e-4, atol=1e-5)


def test_parts_of_image_folders(folder: Path) -> None:
    data = ImageData("imagefolder", root=folder, image_size=16, num_workers=0, eval_batch_size=4, validation_size=4)
    whole = torch.cat([images for images, _ in data.test_dataloader()])
    part = torch.cat([images for images, _ in data.evaluation_loader("test", torch.tensor([4, 1]))])
    assert torch.equal(part, whole[[4, 1]])
    assert data.fingerprint("test", slice(2)) != data.fingerprint("test", slice(3))


def test_fingerprints_change_with_the_part() -> None:
    data = digits()
    first, rest = data.validation_parts(0.3)
    parts = [None, first, rest, slice(10), slice(11), slice(1, 11), first.flip(0)]
    marks = [data.fingerprint("validation", part) for part in parts]
    assert len(set(marks)) == len(parts)
    assert data.fingerprint("validation", slice(None)) == data.fingerprint("validation")
    assert data.fingerprint("test", slice(10)) not in marks


def test_the_parts_of_the_validation_images(folder: Path) -> None:
    data = digits()
    first, rest = data.validation_parts(0.25)
    assert (len(first), len(rest)) == (34, 101)
    assert sorted([*first.tolist(), *rest.tolist()]) == list(range(135))
    assert torch.equal(first, digits(seed=5).validation_parts(0.25)[0])
    assert not torch.equal(first, digits(split_seed=1).validation_parts(0.25)[0])
    # Folders lie sorted by class; a part must not be the first classes.
    shutil.copytree(folder / "val", folder / "test")
    for name in ("cat", "dog"):
        for i in range(3, 103):
            shutil.copy(folder / "val" / name / "0.png", folder / "val" / name / f"{i}.png")
    data = ImageData("imagefolder", root=folder, image_size=16)
    labels = data.samples("validation").labels
    first, _ = data.validation_parts(0.5)
    assert 38 <= labels[first].sum() <= 65, "103 of 206 images, half of them dogs"


def test_copies_of_a_digit_stay_together() -> None:
    """Thresholds are not to be solved on other pictures of the digits that temperatures were fitted on."""
    data = digits(eval_copies=3)
    first, rest = data.validation_parts(0.2)
    assert (len(first), len(rest)) == (3 * 27, 3 * 108)
    assert sorted([*first.tolist(), *rest.tolist()]) == list(range(3 * 135))
    assert not set((first % 135).tolist()) & set((rest % 135).tolist())
    labels = data.samples("validation").labels
    assert torch.equal(labels[:135], labels[135:270]), "copy c of digit i is image c * 135 + i"


@pytest.mark.parametrize("share", [0, 1, -0.5, 1.5, 0.001, 0.999, float("nan")])
def test_a_share_that_leaves_a_part_empty_is_named(share: float) -> None:
    with pytest.raises(UserError, match="of 135 validation samples leaves one of two parts empty"):
        digits().validation_parts(share)


def test_no_images_are_named() -> None:
    with pytest.raises(UserError, match="None of the 0 validation images is chosen"):
        digits(validation_size=0).evaluation_loader("validation")
    with pytest.raises(UserError, match="None of the 449 test images is chosen"):
        digits().evaluation_loader("test", slice(449, None))


def test_each_process_gets_its_part() -> None:
    seen = []
    for rank in range(3):
        data = digits(batch_size=10, eval_batch_size=50)
        strategy = SimpleNamespace(root_device=torch.device("cpu"))
        data.trainer = SimpleNamespace(global_rank=rank, world_size=3, strategy=strategy)  # type: ignore[assignment]
        train, test = data.train_dataloader(), data.test_dataloader()
        assert (len(train), len(test)) == (41, 3)
        seen.append(torch.cat([images.mean((1, 2, 3)) for images, _ in test]))
    whole = torch.cat([images.mean((1, 2, 3)) for images, _ in digits().test_dataloader()])
    for rank in range(3):
        assert torch.equal(seen[rank], whole[rank::3])


def test_more_processes_than_images() -> None:
    data = digits(validation_size=2)
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    data.trainer = SimpleNamespace(global_rank=0, world_size=4, strategy=strategy)  # type: ignore[assignment]
    with pytest.raises(UserError, match="2 validation images in batches of 500 cannot be distributed to 4 processes"):
        data.val_dataloader()


# The warning left out is Lightning 2.6's own, with newer PyTorch.
@pytest.mark.filterwarnings("error", "ignore:.*LeafSpec:FutureWarning")
@pytest.mark.parametrize("loader", ["device", "workers"])
def test_lightning_trains_validates_and_tests(loader: str) -> None:
    workers = {"num_workers": 0} if loader == "workers" else {}
    data = digits(loader=loader, train_limit=200, **workers)
    model, run = Probe(), trainer(max_epochs=2, log_every_n_steps=1)
    run.fit(model, datamodule=data)
    assert run.callback_metrics["validated"] == 1
    assert len(model.seen) == 8
    assert not torch.equal(torch.cat(model.seen[:4]).sort().values, torch.cat(model.seen[4:]).sort().values)
    run.test(model, datamodule=data, verbose=False)
    assert run.callback_metrics["tested"] == 1


@pytest.mark.filterwarnings("error", "ignore:.*LeafSpec:FutureWarning")
def test_nothing_held_out() -> None:
    data = digits(validation_size=0, train_limit=200)
    assert data.val_dataloader() == []
    run = trainer(max_epochs=1, log_every_n_steps=1)
    run.fit(Probe(), datamodule=data)
    assert "validated" not in run.callback_metrics
    assert sum(len(labels) for _, labels in digits(validation_size=0).train_dataloader()) == 1348


@pytest.mark.parametrize("loader", ["device", "workers"])
@pytest.mark.parametrize("steps", [8, 10])
def test_a_resumed_run_sees_what_the_whole_run_would_have(tmp_path: Path, loader: str, steps: int) -> None:
    # Four batches an epoch: step 8 ends one, step 10 is in the middle of one.
    workers = {"num_workers": 1} if loader == "workers" else {}
    path = tmp_path / "steps.ckpt"

    class Save(pl.Callback):
        def on_train_batch_end(self, run: pl.Trainer, *_: object) -> None:
            if run.global_step == steps:
                run.save_checkpoint(path)

    whole, rest = Probe(), Probe()
    options = {"max_epochs": 4, "limit_val_batches": 0, "log_every_n_steps": 1}
    trainer(**options, callbacks=[Save()]).fit(whole, datamodule=digits(loader=loader, train_limit=200, **workers))
    data = digits(loader=loader, train_limit=200, **workers)
    trainer(**options).fit(rest, datamodule=data, ckpt_path=path, weights_only=False)
    assert len(whole.seen) == 16
    for seen, expected in zip(rest.seen, whole.seen[steps:], strict=True):
        assert torch.equal(seen, expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "cifar11"}, "Unknown data set 'cifar11'; did you mean cifar10"),
        ({"loader": "gpu"}, "Unknown data loader 'gpu'"),
        ({"batch_size": 0}, "data.batch_size=0 must be an integer of at least 1"),
        ({"batch_size": 1.5}, "data.batch_size=1.5 must be an integer"),
        ({"eval_batch_size": "many"}, "data.eval_batch_size=many must be an integer"),
        ({"train_limit": 0}, "data.train_limit=0"),
        ({"name": "cifar10", "image_size": 64}, "images of cifar10 are 32 pixels a side"),
        ({"name": "cifar10", "clutter": 3}, "data.clutter is an option of the data set digits"),
        ({"root": "data"}, "digits is part of ranet and has no files"),
        ({"download": True}, "data.download is for cifar10 and cifar100"),
        ({"name": "imagenet", "download": True}, "imagenet cannot be downloaded"),
        ({"name": "imagenet", "loader": "device"}, "use workers for imagenet"),
        ({"num_workers": 2}, "data.num_workers has no effect on the device loader"),
        ({"min_size": 40}, "min_size=40"),
        ({"name": "cifar10", "channels": 1}, "images of cifar10 are 32 pixels a side and RGB; remove"),
        (
            {"image_size": 4},
            r"image_size=4 must be an integer of at least 8, or two of them: \[height, width\]\.$",
        ),
        ({"image_size": [28]}, r"data.image_size=\[28\] must be an integer of at least 8, or two of them"),
        ({"image_size": [28, 7]}, r"data.image_size=\[28, 7\] must be"),
        ({"image_size": [28, 40, 3]}, "must be an integer of at least 8, or two of them"),
        ({"image_size": "28x40"}, "data.image_size=28x40 must be an integer of at least 8, or two of them"),
        ({"channels": 2}, r"data.channels=2 must be 1 \(grey\) or 3 \(RGB\)\.$"),
        ({"channels": True}, "data.channels=True must be 1"),
        (
            {"channels": 1, "mean": [0.485, 0.456, 0.406]},
            r"data.mean=\[0.485, 0.456, 0.406\] must be a list of finite numbers, one for each channel \(1\)\.$",
        ),
        ({"mean": 0.5}, r"data.mean=0.5 must be a list of finite numbers, one for each channel \(3\)"),
        ({"channels": 1, "std": [0.0]}, r"data.std=\[0.0\] must be a list of positive numbers, one for each channel"),
    ],
)
def test_mistakes_are_named_at_once(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        ImageData(**{"name": "digits", **options})


def test_mistakes_that_need_the_data(folder: Path) -> None:
    with pytest.raises(UserError, match="validation_size=2000 cannot be held out of 1348"):
        digits(validation_size=2000).setup()
    (folder / "imagenet").symlink_to(folder)
    with pytest.raises(UserError, match="holds 2 classes, not ImageNet's 1000; use data=imagefolder"):
        ImageData("imagenet", root=folder).setup()
    with pytest.raises(UserError, match="There is no folder /nowhere/train"):
        ImageData("imagefolder", root="/nowhere").setup()
    with pytest.raises(UserError, match="There is no cifar10 at"):
        ImageData("cifar10", root=folder).setup()


def test_the_root_comes_from_the_environment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANET_DATA", str(folder))
    assert ImageData("imagefolder").class_names == ["cat", "dog"]
    monkeypatch.delenv("RANET_DATA")
    assert ImageData("cifar10").root == Path("data")


@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_configuration(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANET_DATA", str(folder))
    written = yaml.safe_load((CONF / f"{name}.yaml").read_text())
    config = OmegaConf.create({"seed": 7, "data": written})
    data = instantiate(config.data)
    assert isinstance(data, ImageData)
    assert (data.name, data.seed, data.split_seed) == (name, 7, 0)
    # The files say the published values, which are the defaults.
    default = ImageData(name)
    for option in ("image_size", "validation_size", "resident", "num_workers", "root", "erasing"):
        assert getattr(data, option) in (getattr(default, option), folder), option
    if name == "digits":
        assert data.digit_options == default.digit_options


def test_loaders_by_name(folder: Path) -> None:
    assert isinstance(digits().train_dataloader(), DeviceLoader)
    assert isinstance(digits(loader="workers").train_dataloader(), WorkerLoader)
    default = ImageData("imagefolder", root=folder).train_dataloader()
    assert isinstance(default, WorkerLoader)
    assert default.num_workers >= 1


def test_a_file_that_is_written_anew_with_the_same_length_shows(folder: Path) -> None:
    data = ImageData("imagefolder", root=folder, image_size=32)
    before, fingerprint = data.touched("test"), data.fingerprint("test")
    path = sorted((folder / "val").rglob("*.png"))[0]
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert ImageData("imagefolder", root=folder, image_size=32).touched("test") != before
    assert ImageData("imagefolder", root=folder, image_size=32).fingerprint("test") == fingerprint
    assert digits().touched("test") == ""


def test_pixels_and_fingerprints_of_square_images_stay_what_they_were() -> None:
    """Of crops, erased rectangles and squares; cached scores are found by the fingerprint."""
    data = digits(clutter=None, noise=None, erasing=0.5, cutout=7)
    digest = hashlib.sha256(b"".join(x.numpy().tobytes() for batch in data.train_dataloader() for x in batch))
    assert digest.hexdigest()[:16] == "de09692b0212b409"
    assert [data.fingerprint(split) for split in ("train", "validation", "test")] == [
        *("6c3d394728693c27", "aa84e4e982f421c9", "49840dfc9d91b9d2")
    ]
