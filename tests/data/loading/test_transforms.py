import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.stats import chisquare
from torchvision.transforms import v2

from ranet.data.loading.transforms import (
    EvaluationGeometry,
    Geometry,
    Normalise,
    crop_and_flip,
    describe_evaluation,
    training_geometry,
)
from ranet.data.sets.catalogue import CATALOGUE, Facts
from ranet.images.decoding import DECODING
from ranet.support.shapes import image_shape
from tests.data.examples import DRAWS, all_outcomes, unique_pixels


def test_every_outcome_is_torchvisions_bit_by_bit() -> None:
    expected, numbers = all_outcomes()
    assert len(numbers) == DRAWS, "the outcomes can be told apart"
    draw = torch.arange(DRAWS)
    images = unique_pixels().expand(DRAWS, -1, -1, -1)
    cropped = crop_and_flip(images, draw // 18, draw // 2 % 9, draw % 2 == 1, padding=4)
    assert torch.equal(cropped, expected)


def test_training_geometry_is_uniform_over_all_outcomes() -> None:
    _, numbers = all_outcomes()
    geometry = training_geometry(CATALOGUE["cifar10"])
    image = unique_pixels()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        seen = torch.tensor([numbers[geometry(image).numpy().tobytes()] for _ in range(DRAWS * 20)])
    assert chisquare(torch.bincount(seen, minlength=DRAWS).numpy()).pvalue > 0.001


@given(
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    padding=st.integers(0, 5),
    seed=st.integers(0, 1000),
)
def test_crop_and_flip_against_one_image_at_a_time(size: tuple[int, int], padding: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(256, (5, 3, *size), generator=generator, dtype=torch.uint8)
    top, left = torch.randint(2 * padding + 1, (2, 5), generator=generator)
    flip = torch.randint(2, (5,), generator=generator).bool()
    expected = []
    for image, y, x, mirrored in zip(images, top.tolist(), left.tolist(), flip.tolist(), strict=True):
        window = v2.functional.crop(v2.functional.pad(image, [padding]), y, x, *size)
        expected.append(window.flip(-1) if mirrored else window)
    assert torch.equal(crop_and_flip(images, top, left, flip, padding), torch.stack(expected))


def test_normalise_is_torchvisions() -> None:
    images = torch.randint(256, (4, 3, 5, 5), dtype=torch.uint8)
    facts = CATALOGUE["cifar100"]
    expected = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(facts.mean, facts.std)])(images)
    normalised = Normalise(facts.mean, facts.std)(images)
    assert normalised.dtype == torch.float32
    torch.testing.assert_close(normalised, expected, rtol=1e-5, atol=1e-6)


def evaluation(facts: Facts) -> Geometry:
    return EvaluationGeometry(facts.preprocessing)


@pytest.mark.parametrize("image_size", [32, 224, (28, 40), (40, 28)])
@pytest.mark.parametrize("shape", [(300, 200), (200, 300), (20, 30)])
@pytest.mark.parametrize("make", [training_geometry, evaluation])
def test_photographs_of_any_size(make, shape: tuple[int, int], image_size: int | tuple[int, int]) -> None:
    for channels, seen in ((3, [255, 0, 0]), (1, [76])):  # 0.299 * 255
        out = make(CATALOGUE["imagenet"].chosen(image_size, channels))(Image.new("RGB", shape, "red"))
        assert out.shape == image_shape(image_size, channels)
        assert out.dtype == torch.uint8
        assert type(out) is torch.Tensor
        assert out[:, 0, 0].tolist() == out[:, -1, -1].tolist() == seen


def test_random_parts_are_stretched_by_up_to_a_third() -> None:
    """Of images of 60 x 120 pixels for a network that reads 30 x 60: a pixel says where it was, so a part its sides."""
    y, x = np.mgrid[:60, :120]
    picture = Image.fromarray(np.stack([2 * x, 4 * y, 0 * x], 2).astype(np.uint8))
    geometry = training_geometry(CATALOGUE["imagenet"].chosen([30, 60]))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        parts = torch.stack([geometry(picture) for _ in range(300)]).float()
    width = (parts[:, 0, :, -1] - parts[:, 0, :, 0]).abs().mean(1) / 2 * 60 / 59
    height = (parts[:, 1, -1] - parts[:, 1, 0]).abs().mean(1) / 4 * 30 / 29
    stretch = ((width / 60) / (height / 30)).numpy()
    assert 0.7 < stretch.min() < 0.8 < 1.25 < stretch.max() < 1.45  # whole pixels
    assert np.log(stretch).mean() == pytest.approx(0, abs=0.05)
    assert (width * height / (60 * 120)).numpy().min() < 0.15


@pytest.mark.parametrize("channels", [1, 3])
def test_padding_and_cropping_of_images_that_are_not_square(channels: int) -> None:
    """The outcomes on an image of 9 x 13 pixels are the windows of the padded image, plain or mirrored: all occur."""
    facts = CATALOGUE["cifar10"].chosen([9, 13], channels)
    image = torch.randint(1, 256, (channels, 9, 13), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    padded = np.pad(image.numpy(), ((0, 0), (4, 4), (4, 4)))
    windows = [padded[:, y : y + 9, x : x + 13] for y in range(9) for x in range(9)]
    possible = {each.tobytes() for window in windows for each in (window, window[:, :, ::-1])}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        seen = {training_geometry(facts)(image).numpy().tobytes() for _ in range(1500)}
    assert seen == possible


def test_the_published_evaluation_is_the_centre_of_256() -> None:
    image = Image.effect_noise((300, 400), 80).convert("RGB")
    expected = v2.functional.center_crop(v2.functional.resize(image, [256]), [224])
    assert torch.equal(evaluation(CATALOGUE["imagenet"])(image), v2.functional.pil_to_tensor(expected))


def test_evaluation_leaves_small_images_as_they_are() -> None:
    assert torch.equal(evaluation(CATALOGUE["cifar10"])(unique_pixels()), unique_pixels())


def test_descriptions_differ() -> None:
    sizes = (32, 64, (28, 40), (40, 28))
    lines = {describe_evaluation(CATALOGUE[name].chosen(size)) for name in CATALOGUE for size in sizes}
    # CIFAR and digits are not resized; imagenet and imagefolder share their transform.
    assert len(lines) == 3 + len(sizes)
    grey = {describe_evaluation(CATALOGUE[name].chosen(channels=1)) for name in CATALOGUE}
    assert len(grey - lines) == 4


def test_the_published_descriptions_stay() -> None:
    """They are part of the fingerprints of cached scores."""
    assert describe_evaluation(CATALOGUE["imagefolder"].chosen(64)) == (
        f"{DECODING}; resize 73 bilinear with antialiasing, center crop 64 "
        "mean (0.485, 0.456, 0.406) std (0.229, 0.224, 0.225)"
    )
    assert describe_evaluation(CATALOGUE["digits"]) == "as stored mean (0.16, 0.16, 0.16) std (0.234, 0.234, 0.234)"
