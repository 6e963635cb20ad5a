import pytest
import torch
from scipy.stats import chisquare

from ranet.data.loading.device_loader import DeviceLoader
from ranet.data.loading.sampling import EpochSampler
from ranet.data.loading.transforms import Normalise
from ranet.data.sets.catalogue import CATALOGUE
from ranet.data.sets.sources import TensorSet
from tests.data.examples import DRAWS, all_outcomes, by_label, samples, unique_pixels

FACTS = CATALOGUE["cifar10"]
CPU = torch.device("cpu")


def loader(
    batch_size: int = 16, seed: int | None = 0, rank: int = 0, world_size: int = 1, count: int = 100
) -> DeviceLoader:
    return DeviceLoader(samples(count), FACTS, EpochSampler(count, batch_size, seed, rank, world_size), CPU)


def test_crops_and_flips_are_uniform_over_torchvisions_outcomes() -> None:
    outcomes, _ = all_outcomes()
    count = DRAWS * 20
    same = TensorSet(unique_pixels().expand(count, -1, -1, -1), torch.zeros(count, dtype=torch.int64))
    images = torch.cat([batch for batch, _ in DeviceLoader(same, FACTS, EpochSampler(count, 500, seed=0), CPU)])
    normalised = Normalise(FACTS.mean, FACTS.std)(outcomes)
    numbers = {image.numpy().tobytes(): draw for draw, image in enumerate(normalised)}
    seen = torch.tensor([numbers[image.numpy().tobytes()] for image in images])
    assert chisquare(torch.bincount(seen, minlength=DRAWS).numpy()).pvalue > 0.001


def test_batches() -> None:
    batches = list(loader())
    assert len(batches) == len(loader()) == 7
    for images, labels in batches:
        assert images.dtype == torch.float32
        assert labels.dtype == torch.int64
        assert images.shape == (len(labels), 3, 32, 32)
    assert sorted(torch.cat([labels for _, labels in batches]).tolist()) == list(range(100))


def test_evaluation_is_in_order_and_untouched() -> None:
    evaluation = loader(seed=None)
    expected = Normalise(FACTS.mean, FACTS.std)(samples().images)
    assert torch.equal(torch.cat([images for images, _ in evaluation]), expected)
    assert torch.equal(torch.cat([labels for _, labels in evaluation]), torch.arange(100))
    evaluation.sampler.set_epoch(5)
    assert torch.equal(torch.cat([images for images, _ in evaluation]), expected)


def test_an_epoch_can_be_entered_at_once() -> None:
    walked, fresh = loader(), loader()
    epochs = []
    for epoch in range(4):
        walked.sampler.set_epoch(epoch)
        epochs.append(by_label(walked))
    fresh.sampler.set_epoch(3)
    assert torch.equal(by_label(fresh), epochs[3])
    assert not torch.equal(epochs[2], epochs[3])


def test_the_epoch_may_be_set_after_the_iterator_is_made() -> None:
    # Lightning does so in the first epoch of a run, which after a resume is any epoch.
    late, early = loader(), loader()
    iterator = iter(late)
    late.sampler.set_epoch(2)
    early.sampler.set_epoch(2)
    assert torch.equal(next(iterator)[1], next(iter(early))[1])


def test_an_epoch_can_be_entered_in_the_middle() -> None:
    broken, fresh = loader(), loader()
    iterator = iter(broken)
    for _ in range(3):
        next(iterator)
    fresh.load_state_dict(broken.state_dict())
    rest = list(fresh)
    assert len(rest) == 4
    for (images, labels), (expected, expected_labels) in zip(rest, iterator, strict=True):
        assert torch.equal(images, expected)
        assert torch.equal(labels, expected_labels)
    assert fresh.state_dict() == {"given": 0}, "after the last batch the next epoch begins"
    assert len(list(fresh)) == 7


def test_augmentation_depends_on_neither_batch_size_nor_processes() -> None:
    expected = by_label(loader(batch_size=100))
    assert torch.equal(by_label(loader(batch_size=7)), expected)
    halves = [batch for rank in range(2) for batch in loader(batch_size=25, rank=rank, world_size=2)]
    images, labels = map(torch.cat, zip(*halves, strict=True))
    assert torch.equal(images[labels.argsort()], expected)


def test_digits_are_not_mirrored() -> None:
    digits = DeviceLoader(
        TensorSet(unique_pixels().expand(500, -1, -1, -1), torch.arange(500)),
        CATALOGUE["digits"],
        EpochSampler(500, 50, seed=0),
        CPU,
    )
    # Reading left to right the first channel of this image never falls by one.
    images = by_label(digits)[:, 0, 8:24, 8:24]
    assert len(images.flatten(1).unique(dim=0)) == 25
    assert (images.diff(dim=2).median() > 0).all()


def test_the_global_random_state_stays() -> None:
    state = torch.get_rng_state()
    list(loader())
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_draws_as_the_cpu() -> None:
    gpu = DeviceLoader(samples(), FACTS, EpochSampler(100, 16, seed=0), torch.device("cuda"))
    for (images, labels), (expected, expected_labels) in zip(gpu, loader(), strict=True):
        assert images.is_cuda
        assert torch.equal(labels.cpu(), expected_labels)
        torch.testing.assert_close(images.cpu(), expected, rtol=1e-6, atol=1e-6)
