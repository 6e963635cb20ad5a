import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, chisquare, ks_2samp
from torchvision.transforms import v2

from ranet.data import ImageData
from ranet.data.loading.device_loader import DeviceLoader
from ranet.data.loading.erasing import Erasing, erase
from ranet.data.loading.loader import EpochLoader
from ranet.data.loading.sampling import EpochSampler
from ranet.data.loading.worker_loader import WorkerLoader
from ranet.data.sets.catalogue import CATALOGUE
from ranet.errors import UserError
from ranet.support.shapes import sides
from tests.data.examples import by_label, samples

FACTS = CATALOGUE["cifar10"]
CPU = torch.device("cpu")
BOTH = Erasing(0.5, 8, 32)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def device_loader(erasing: Erasing | None = BOTH, batch_size: int = 16, seed: int = 0, **ranks: int) -> DeviceLoader:
    return DeviceLoader(samples(), FACTS, EpochSampler(100, batch_size, seed, **ranks), CPU, erasing)


def worker_loader(erasing: Erasing | None, num_workers: int = 0) -> WorkerLoader:
    return WorkerLoader(samples(), FACTS, EpochSampler(100, 16, 0), CPU, num_workers, erasing)


@pytest.mark.parametrize("size", [8, 32, (12, 40)])
def test_random_erasing_has_torchvisions_distribution(size: int | tuple[int, int]) -> None:
    count, theirs = 3000, []
    full = sides(size)
    torchvisions, image = v2.RandomErasing(p=1.0), [torch.zeros(3, *full)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for _ in range(count):
            drawn = torchvisions.make_params(image)
            theirs.append([drawn["i"], drawn["j"], drawn["h"], drawn["w"]])
    ours = Erasing(1.0, 0, size).draw(count, generator()).squeeze(1)
    ours[:, 2:] -= ours[:, :2]
    top, left, height, width = ours.double().T.numpy()
    their_top, their_left, their_height, their_width = np.array(theirs, dtype=float).T
    for mine, other in (
        (top, their_top),
        (left, their_left),
        (height, their_height),
        (width, their_width),
        (height * width, their_height * their_width),
        (height / width, their_height / their_width),
        (top / (full[0] + 1 - height), their_top / (full[0] + 1 - their_height)),
        (left / (full[1] + 1 - width), their_left / (full[1] + 1 - their_width)),
    ):
        assert ks_2samp(mine, other).pvalue > 0.001


def test_random_erasing_erases_with_the_probability() -> None:
    boxes = Erasing(0.25, 0, 32).draw(4000, generator()).squeeze(1)
    erased = (boxes[:, 2] > boxes[:, 0]).sum().item()
    assert binomtest(erased, 4000, 0.25).pvalue > 0.001
    assert not boxes[boxes[:, 2] == 0].any()


@pytest.mark.parametrize("side", [1, 8, 16, 32])
def test_cutout_is_the_authors(side: int) -> None:
    """Against their loop (github.com/uoguelph-mlrg/Cutout), which is for even sides."""
    boxes = Erasing(0.0, side, 32).draw(1000, generator())
    images = erase(torch.ones(1000, 1, 32, 32), boxes)
    for image, (y, x) in zip(images, torch.randint(32, (1000, 2), generator=generator()).tolist(), strict=True):
        mask = np.ones((32, 32), np.float32)
        y1, y2 = np.clip([y - side // 2, y + (side + 1) // 2], 0, 32)
        x1, x2 = np.clip([x - side // 2, x + (side + 1) // 2], 0, 32)
        mask[y1:y2, x1:x2] = 0.0
        assert np.array_equal(image[0].numpy(), mask)


def test_the_centre_of_cutout_is_uniform_over_the_image() -> None:
    for height, width in ((8, 8), (6, 10)):
        boxes = Erasing(0.0, 1, (height, width)).draw(6400, generator(1)).squeeze(1)
        seen = torch.bincount(boxes[:, 0] * width + boxes[:, 1], minlength=height * width)
        assert len(seen) == height * width
        assert chisquare(seen.numpy()).pvalue > 0.001


@given(
    seed=st.integers(0, 2**31),
    probability=st.sampled_from([0.0, 0.3, 1.0]),
    cutout=st.integers(0, 9),
    size=st.tuples(st.integers(9, 20), st.integers(9, 20)),
)
def test_erasing_against_a_loop(seed: int, probability: float, cutout: int, size: tuple[int, int]) -> None:
    erasing = Erasing(probability, cutout, size)
    boxes = erasing.draw(5, generator(seed))
    assert boxes.shape == (5, (probability > 0) + (cutout > 0), 4)
    images = 1 + torch.rand(5, 3, *size, generator=generator(seed))
    expected = images.clone()
    for image, own in zip(expected, boxes.tolist(), strict=True):
        for top, left, bottom, right in own:
            assert 0 <= top <= bottom <= size[0]
            assert 0 <= left <= right <= size[1]
            image[:, top:bottom, left:right] = 0
    assert torch.equal(erase(images, boxes), expected)
    if not erasing.enabled:
        assert expected.all()


@settings(max_examples=settings().max_examples // 3)
@given(
    seed=st.integers(0, 1000),
    epoch=st.integers(0, 300),
    batch_size=st.integers(2, 100),
    world_size=st.integers(1, 4),
)
def test_what_is_erased_follows_from_seed_epoch_and_sample(
    seed: int, epoch: int, batch_size: int, world_size: int
) -> None:
    parts = []
    for rank in range(world_size):
        loader = device_loader(batch_size=batch_size, seed=seed, rank=rank, world_size=world_size)
        loader.sampler.set_epoch(epoch)
        parts += list(loader)
    whole = device_loader(batch_size=100, seed=seed)
    whole.sampler.set_epoch(epoch)
    expected = by_label(whole)
    # Lone last batches are left out, and filling up the order to all processes repeats some samples.
    for images, labels in parts:
        assert torch.equal(images, expected[labels])


def test_erased_images_are_the_others_with_zeros_in_both_loaders() -> None:
    plain, erased = by_label(device_loader(None)), by_label(device_loader())
    gone = (erased == 0).all(1)
    assert torch.equal(erased, plain.masked_fill(gone.unsqueeze(1), 0)), "crops and flips are as without erasing"
    assert (gone.sum((1, 2)) >= 16).all(), "a corner of the square is always inside"
    assert (gone.sum((1, 2)) <= 64).sum() == pytest.approx(50, abs=25), "the other half has a rectangle, too"
    plain, erased = by_label(worker_loader(None)), by_label(worker_loader(BOTH))
    assert torch.equal(erased, plain.masked_fill(gone.unsqueeze(1), 0)), "the loaders erase the same"
    assert torch.equal(by_label(worker_loader(BOTH, num_workers=1)), erased)


@pytest.mark.parametrize("make", [device_loader, lambda: worker_loader(BOTH)])
def test_an_epoch_can_be_entered_in_the_middle(make: Any) -> None:
    broken, fresh = make(), make()
    for loader in (broken, fresh):
        loader.sampler.set_epoch(3)
    iterator = iter(broken)
    for _ in range(3):
        next(iterator)
    fresh.load_state_dict(broken.state_dict())
    for (images, labels), (expected, expected_labels) in zip(fresh, iterator, strict=True):
        assert torch.equal(images, expected)
        assert torch.equal(labels, expected_labels)
    fresh.load_state_dict({"given": len(fresh)})
    assert list(fresh) == []


def test_epochs_differ_and_the_global_random_state_stays() -> None:
    state, loader = torch.get_rng_state(), device_loader()
    first = by_label(loader)
    loader.sampler.set_epoch(1)
    assert not torch.equal((by_label(loader) == 0).all(1), (first == 0).all(1))
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_erases_as_the_cpu() -> None:
    cuda = DeviceLoader(samples(), FACTS, EpochSampler(100, 16, 0), torch.device("cuda"), BOTH)
    for (images, _), (expected, _) in zip(cuda, device_loader(), strict=True):
        assert torch.equal((images == 0).cpu(), expected == 0)


def digits(**options: Any) -> ImageData:
    return ImageData("digits", train_copies=1, eval_copies=1, **options)


@pytest.mark.parametrize("loader", [{}, {"loader": "workers", "num_workers": 0}])
def test_only_training_images_are_erased(loader: dict[str, Any]) -> None:
    plain, erasing = digits(**loader), digits(erasing=1.0, cutout=10, **loader)

    def images(loaded: EpochLoader) -> torch.Tensor:
        return torch.cat([images for images, _ in loaded])

    for split in ("val_dataloader", "test_dataloader"):
        assert torch.equal(images(getattr(erasing, split)()), images(getattr(plain, split)()))
    before, after = images(plain.train_dataloader()), images(erasing.train_dataloader())
    assert not torch.equal(before, after)
    assert torch.equal(torch.where(after == 0, 0, before), after)
    assert erasing.fingerprint("train") == plain.fingerprint("train"), "it marks the images, not their augmentation"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"erasing": -0.1}, "erasing=-0.1 must be a probability"),
        ({"erasing": 1.5}, "erasing=1.5"),
        ({"erasing": math.nan}, "erasing=nan"),
        ({"erasing": "often"}, "erasing=often"),
        ({"erasing": True}, "erasing=True"),
        ({"cutout": -1}, "cutout=-1 must be an integer number of pixels from 0 to 32"),
        ({"cutout": 33}, "cutout=33"),
        ({"cutout": 29, "image_size": [28, 40]}, "cutout=29 must be an integer number of pixels from 0 to 28"),
        ({"cutout": 0.5}, "cutout=0.5"),
        ({"cutout": None}, "cutout=None"),
    ],
)
def test_bad_values_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        digits(**options)
