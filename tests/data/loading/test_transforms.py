import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.stats import chisquare
from torchvision.transforms import v2

from ranet.data.loading.transforms import (
    Normalise,
    crop_and_flip,
    describe_evaluation,
    evaluation_geometry,
    resized,
    training_geometry,
)
from ranet.data.sets.catalogue import CATALOGUE
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
    geometry = training_geometry(CATALOGUE["cifar10"], 32)
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


@pytest.mark.parametrize("image_size", [32, 224])
@pytest.mark.parametrize("shape", [(300, 200), (200, 300), (20, 30)])
@pytest.mark.parametrize("make", [training_geometry, evaluation_geometry])
def test_photographs_of_any_size(make, shape: tuple[int, int], image_size: int) -> None:
    out = make(CATALOGUE["imagenet"], image_size)(Image.new("RGB", shape, "red"))
    assert out.shape == (3, image_size, image_size)
    assert out.dtype == torch.uint8
    assert type(out) is torch.Tensor
    assert out[:, 0, 0].tolist() == [255, 0, 0]


def test_the_published_evaluation_is_the_centre_of_256() -> None:
    assert resized(224) == 256
    image = Image.effect_noise((300, 400), 80).convert("RGB")
    expected = v2.functional.center_crop(v2.functional.resize(image, [256]), [224])
    assert torch.equal(evaluation_geometry(CATALOGUE["imagenet"], 224)(image), v2.functional.pil_to_tensor(expected))


def test_evaluation_leaves_small_images_as_they_are() -> None:
    assert torch.equal(evaluation_geometry(CATALOGUE["cifar10"], 32)(unique_pixels()), unique_pixels())


def test_descriptions_differ() -> None:
    lines = {describe_evaluation(CATALOGUE[name], size) for name in CATALOGUE for size in (32, 64)}
    # CIFAR and digits are not resized; imagenet and imagefolder share their transform.
    assert len(lines) == 3 + 2
