from pathlib import Path

import pytest
import torch
from PIL import Image
from scipy.stats import chisquare

from ranet.data.loading.device_loader import DeviceLoader
from ranet.data.loading.sampling import EpochSampler
from ranet.data.loading.worker_loader import WorkerLoader
from ranet.data.sets.catalogue import CATALOGUE
from ranet.data.sets.sources import FileSet, TensorSet, list_images
from ranet.errors import UserError
from tests.data.examples import DRAWS, all_outcomes, by_label, samples, unique_pixels

CPU = torch.device("cpu")


def files(folder: Path, batch_size: int = 4, seed: int | None = 0, num_workers: int = 0, **ranks: int) -> WorkerLoader:
    images = list_images(folder / "train", ["cat", "dog"])
    # Labels that tell the samples apart.
    images = FileSet(images.folder, images.paths, torch.arange(len(images)))
    sampler = EpochSampler(len(images), batch_size, seed, **ranks)
    return WorkerLoader(images, CATALOGUE["imagefolder"].chosen(24), sampler, CPU, num_workers)


def tensors(images: TensorSet, seed: int | None = 0, batch_size: int = 16) -> WorkerLoader:
    sampler = EpochSampler(len(images), batch_size, seed)
    return WorkerLoader(images, CATALOGUE["cifar10"], sampler, CPU, num_workers=0)


def test_batches(folder: Path) -> None:
    batches = list(files(folder, batch_size=5))
    assert [images.shape for images, _ in batches] == [(5, 3, 24, 24), (5, 3, 24, 24), (2, 3, 24, 24)]
    assert {images.dtype for images, _ in batches} == {torch.float32}
    assert sorted(torch.cat([labels for _, labels in batches]).tolist()) == list(range(12))


def test_workers_and_batches_do_not_change_what_is_drawn(folder: Path) -> None:
    expected = by_label(files(folder))
    assert torch.equal(by_label(files(folder, num_workers=2)), expected)
    assert torch.equal(by_label(files(folder, batch_size=12)), expected)
    halves = [batch for rank in range(2) for batch in files(folder, rank=rank, world_size=2)]
    images, labels = map(torch.cat, zip(*halves, strict=True))
    assert torch.equal(images[labels.argsort()], expected)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_epoch_can_be_entered_at_once_and_in_the_middle(folder: Path, num_workers: int) -> None:
    walked, fresh = files(folder), files(folder, num_workers=num_workers)
    for epoch in range(4):
        walked.sampler.set_epoch(epoch)
        last = list(walked)
    iterator = iter(fresh)
    fresh.load_state_dict({"given": 1})
    fresh.sampler.set_epoch(3)
    for (images, labels), (expected, expected_labels) in zip(iterator, last[1:], strict=True):
        assert torch.equal(images, expected)
        assert torch.equal(labels, expected_labels)


def test_the_global_random_state_stays(folder: Path) -> None:
    state = torch.get_rng_state()
    list(files(folder))
    list(files(folder, num_workers=1))
    assert torch.equal(state, torch.get_rng_state())


def test_evaluation_is_that_of_the_device_loader() -> None:
    workers = tensors(samples(), seed=None)
    device = DeviceLoader(samples(), CATALOGUE["cifar10"], EpochSampler(100, 16, None), CPU)
    for (images, labels), (expected, expected_labels) in zip(workers, device, strict=True):
        assert torch.equal(images, expected)
        assert torch.equal(labels, expected_labels)


def test_crops_and_flips_are_uniform() -> None:
    outcomes, _ = all_outcomes()
    count = DRAWS * 10
    same = TensorSet(unique_pixels().expand(count, -1, -1, -1), torch.zeros(count, dtype=torch.int64))
    loader = tensors(same, batch_size=500)
    numbers = {image.numpy().tobytes(): draw for draw, image in enumerate(loader.normalise(outcomes))}
    seen = torch.tensor([numbers[image.numpy().tobytes()] for images, _ in loader for image in images])
    assert chisquare(torch.bincount(seen, minlength=DRAWS).numpy()).pvalue > 0.001


@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize("damage", ["text", "truncated", "empty"])
def test_an_image_that_cannot_be_read_is_named(folder: Path, damage: str, num_workers: int) -> None:
    victim = folder / "train" / "dog" / "3.png"
    content = {"text": b"no image", "truncated": victim.read_bytes()[:1000], "empty": b""}[damage]
    victim.write_bytes(content)
    with pytest.raises(
        UserError, match=r"^\S*train/dog/3.png cannot be read as an image \(.*\); replace or remove it.$"
    ):
        list(files(folder, num_workers=num_workers))


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK"])
def test_images_of_any_mode_come_as_rgb(folder: Path, mode: str) -> None:
    path = folder / "train" / "cat" / "0.png"
    path.unlink()
    Image.new("RGB", (40, 30), (255, 0, 0)).convert(mode).save(path.with_suffix(".tif"))
    assert all(images.shape[1] == 3 for images, _ in files(folder))
