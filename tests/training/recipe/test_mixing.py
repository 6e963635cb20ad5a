import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest

from ranet.errors import UserError
from ranet.training.recipe.mixing import BatchMixing

Batch = tuple[torch.Tensor, torch.Tensor]
CLASSES = 7


@pytest.fixture(autouse=True)
def generators() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def batch(size: int = 6, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(size, 3, 8, 10, generator=generator)
    return images, torch.randint(CLASSES, (size,), generator=generator)


def shares(mixed: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The share of its own label in each image whose neighbour has another."""
    other = labels != labels.roll(1)
    return mixed[other].gather(1, labels[other].unsqueeze(1)).squeeze(1)


def test_mixup_is_the_convex_combination_of_neighbours() -> None:
    images, labels = batch()
    mixed, mixed_labels = BatchMixing(CLASSES, mixup=0.4, cutmix=0.0, probability=1.0)(images, labels)
    (share,) = shares(mixed_labels, labels).unique().tolist()
    assert 0 < share < 1
    one_hot = torch.eye(CLASSES)[labels]
    for i in range(len(labels)):
        torch.testing.assert_close(mixed[i], share * images[i] + (1 - share) * images[i - 1])
        torch.testing.assert_close(mixed_labels[i], share * one_hot[i] + (1 - share) * one_hot[i - 1])


def test_cutmix_puts_in_a_rectangle_and_the_labels_say_its_area() -> None:
    mixing = BatchMixing(CLASSES, mixup=0.0, cutmix=1.0, probability=1.0)
    areas = set()
    for seed in range(30):
        images, labels = batch(seed=seed)
        mixed, mixed_labels = mixing(images, labels)
        kept = (mixed == images).all(1)
        assert torch.equal((mixed == images.roll(1, 0)).all(1), ~kept), "each pixel is of one of the two"
        assert (kept == kept[0]).all(), "the rectangle is that of the whole batch"
        rows, columns = (~kept[0]).any(1), (~kept[0]).any(0)
        assert torch.equal(~kept[0], rows.unsqueeze(1) & columns), "it is a rectangle"
        share = kept[0].float().mean()
        torch.testing.assert_close(shares(mixed_labels, labels), share.expand(int((labels != labels.roll(1)).sum())))
        areas.add(share.item())
    assert len(areas) > 10


def test_shares_are_drawn_from_the_beta_distribution() -> None:
    mixing = BatchMixing(2, mixup=0.7, cutmix=0.0, probability=1.0)
    images, labels = torch.zeros(2, 3, 1, 1), torch.tensor([0, 1])
    drawn = np.array([mixing(images, labels)[1][0, 0].item() for _ in range(2000)])
    assert kstest(drawn, "beta", args=(0.7, 0.7)).pvalue > 0.001


def test_a_batch_is_mixed_with_the_probability_and_by_both_alike() -> None:
    mixing = BatchMixing(CLASSES, mixup=1.0, cutmix=1.0, probability=0.6)
    images, labels = batch()
    seen = {"neither": 0, "mixup": 0, "cutmix": 0}
    for _ in range(1500):
        mixed, mixed_labels = mixing(images, labels)
        own = (mixed == images).all(1)
        # In so small an image a rectangle of CutMix may be empty; then nothing is mixed.
        which = "neither" if own.all() else "cutmix" if (own | (mixed == images.roll(1, 0)).all(1)).all() else "mixup"
        seen[which] += 1
        if which == "neither":
            assert torch.equal(mixed_labels, torch.eye(CLASSES)[labels])
    assert seen["mixup"] == pytest.approx(450, abs=4 * math.sqrt(1500 * 0.3 * 0.7))
    assert 0.7 * 450 < seen["cutmix"] < 450 + 4 * math.sqrt(1500 * 0.3 * 0.7)


@given(
    size=st.integers(1, 5),
    seed=st.integers(0, 2**31),
    mixup=st.sampled_from([0.0, 0.1, 1.0]),
    cutmix=st.sampled_from([0.0, 0.5, 1.0]),
    probability=st.sampled_from([0.0, 0.5, 1.0]),
)
def test_invariants(size: int, seed: int, mixup: float, cutmix: float, probability: float) -> None:
    images, labels = batch(size, seed)
    before = images.clone()
    torch.manual_seed(seed)
    mixing = BatchMixing(CLASSES, mixup, cutmix, probability)
    mixed, probabilities = mixing(images, labels)
    assert torch.equal(images, before), "the batch itself stays"
    assert mixed.shape == images.shape
    assert mixed.dtype == images.dtype
    assert probabilities.shape == (size, CLASSES)
    assert probabilities.dtype == torch.float32
    assert (probabilities >= 0).all()
    torch.testing.assert_close(probabilities.sum(1), torch.ones(size))
    low, high = torch.minimum(images, images.roll(1, 0)), torch.maximum(images, images.roll(1, 0))
    assert ((low - 1e-5 <= mixed) & (mixed <= high + 1e-5)).all()
    if size == 1:
        torch.testing.assert_close(mixed, images)
    if not mixing.enabled:
        assert torch.equal(mixed, images)
    assert mixing.enabled == bool(probability and (mixup or cutmix))


def test_draws_come_from_the_global_generator_of_the_cpu_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    mixing = BatchMixing(CLASSES, mixup=0.2, cutmix=1.0, probability=0.5)

    def run() -> list[Batch]:
        return [mixing(*batch(seed=seed)) for seed in range(20)]

    state, other = torch.get_rng_state(), np.random.get_state(legacy=False)
    first = run()
    assert not torch.equal(state, torch.get_rng_state())
    assert str(other) == str(np.random.get_state(legacy=False)), "NumPy draws nothing"
    torch.set_rng_state(state)
    for (images, labels), (again, labels_again) in zip(first, run(), strict=True):
        assert torch.equal(images, again)
        assert torch.equal(labels, labels_again)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_mixes_as_the_cpu_and_is_not_waited_for() -> None:
    mixing = BatchMixing(CLASSES, mixup=0.2, cutmix=1.0, probability=0.9)
    state = torch.get_rng_state()
    expected = [mixing(*batch(seed=seed)) for seed in range(10)]
    torch.set_rng_state(state)
    batches = [[part.cuda() for part in batch(seed=seed)] for seed in range(10)]
    torch.cuda.set_sync_debug_mode("error")
    try:
        mixed = [mixing(*parts) for parts in batches]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for ours, theirs in zip(mixed, expected, strict=True):
        for part, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(part.cpu(), other)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mixup": -0.1}, "optim.augmentation.mixup=-0.1 must be 0"),
        ({"mixup": math.nan}, "optim.augmentation.mixup=nan"),
        ({"cutmix": math.inf}, "optim.augmentation.cutmix=inf"),
        ({"cutmix": "much"}, "optim.augmentation.cutmix=much"),
        ({"cutmix": True}, "optim.augmentation.cutmix=True"),
        ({"probability": 1.5}, "optim.augmentation.mixing_probability=1.5 must lie from 0 to 1"),
        ({"probability": None}, "optim.augmentation.mixing_probability=None"),
    ],
)
def test_bad_values_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        BatchMixing(CLASSES, **{"mixup": 0.2, "cutmix": 1.0, "probability": 0.5, **options})
