"""What a network is shown outside of training is what it was shown in its evaluation, bit for bit."""

from fractions import Fraction
from math import floor
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import v2

from ranet.data.loading.transforms import Normalise, training_geometry
from ranet.data.module import ImageData
from ranet.data.sets.catalogue import CATALOGUE
from ranet.data.unlabelled import unlabelled_loader
from ranet.errors import UserError
from ranet.images.decoding import DECODING, opened, read_image
from ranet.images.preprocessing import Preprocessing
from ranet.inference.images.files import open_images
from tests.images.pictures import MODES, write_picture

GOOD: dict[str, Any] = {
    "decoding": DECODING,
    "interpolation": "bilinear",
    "antialias": True,
    "crop": "center",
    "mode": "RGB",
    **{"image_size": 24, "resize": 27, "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]},
}


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(256, size=(height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


SIZES = st.integers(8, 40) | st.tuples(st.integers(8, 40), st.integers(8, 40))


@given(
    name=st.sampled_from(sorted(CATALOGUE)),
    size=SIZES,
    channels=st.sampled_from([1, 3]),
    width=st.integers(1, 90),
    height=st.integers(1, 90),
    seed=st.integers(0, 9),
)
def test_any_image_becomes_what_torchvision_makes_of_it(
    name: str, size: int | tuple[int, int], channels: int, width: int, height: int, seed: int
) -> None:
    facts, image = CATALOGUE[name].chosen(size, channels), noise(width, height, seed)
    preprocessing = facts.preprocessing
    if isinstance(size, int):  # as the papers
        resize = v2.Resize(round(size * 256 / 224) if facts.crop_padding is None else size)
    else:
        full = [round(side * 256 / 224) if facts.crop_padding is None else side for side in size]
        factor = max(Fraction(full[0], height), Fraction(full[1], width))
        resize = v2.Resize([floor(height * factor), floor(width * factor)])
    seen = v2.Compose([resize, v2.CenterCrop(size), v2.PILToTensor()])(image if channels == 3 else image.convert("L"))
    pixels = preprocessing.pixels(image)
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, seen.numpy())
    ready = preprocessing(image)
    assert ready.dtype == np.float32
    assert ready.flags.c_contiguous
    expected = Normalise(facts.mean, facts.std)(seen[None])[0]
    np.testing.assert_array_equal(ready, expected.numpy())


@pytest.mark.parametrize(("width", "height"), [(500, 375), (375, 500), (224, 224), (256, 256), (257, 300), (300, 1000)])
def test_imagenet_size(width: int, height: int) -> None:
    preprocessing = CATALOGUE["imagenet"].preprocessing
    assert (preprocessing.resize, min(preprocessing.resized(width, height))) == (256, 256)
    seen = v2.Compose([v2.Resize(256), v2.CenterCrop(224), v2.PILToTensor()])(noise(width, height))
    np.testing.assert_array_equal(preprocessing.pixels(noise(width, height)), seen.numpy())


def test_every_pixel_value_is_normalised_as_in_training() -> None:
    facts = CATALOGUE["cifar10"].chosen(16)
    values = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 3, 16, 16)
    normalised = facts.preprocessing.normalise(values[0].numpy())
    np.testing.assert_array_equal(normalised, Normalise(facts.mean, facts.std)(values)[0].numpy())
    exact = (values[0].double() / 255 - torch.tensor(facts.mean).view(3, 1, 1)) / torch.tensor(facts.std).view(3, 1, 1)
    np.testing.assert_allclose(normalised, exact.numpy(), atol=1e-6)


def test_the_data_sets_own_images_pass_as_they_are() -> None:
    own = noise(32, 32)
    np.testing.assert_array_equal(CATALOGUE["digits"].preprocessing.pixels(own), np.asarray(own).transpose(2, 0, 1))


@given(
    mode=st.sampled_from(sorted(MODES)),
    width=st.integers(8, 90),
    height=st.integers(8, 90),
    orientation=st.integers(1, 8),
    image_size=SIZES,
    channels=st.sampled_from([1, 3]),
)
def test_every_file_is_seen_in_training_evaluation_drift_and_prediction_alike(
    mode: str,
    width: int,
    height: int,
    orientation: int,
    image_size: int | tuple[int, int],
    channels: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    root = tmp_path_factory.mktemp("alike")
    for folder in ("train/a", "train/b", "val/a", "val/b"):
        (root / folder).mkdir(parents=True)
        path = write_picture(root / folder, mode, width, height, orientation)
    data = ImageData(
        "imagefolder", root=root, image_size=image_size, channels=channels, num_workers=0, validation_size=0
    )
    preprocessing = data.facts.preprocessing
    read = open_images(path, preprocessing).read(0, preprocessing)
    assert read.error is None
    assert read.pixels is not None
    with opened(path) as image:  # by its path, Pillow maps an uncompressed TIFF file and does not turn it
        np.testing.assert_array_equal(preprocessing(image), read.pixels)
    for loader in (data.test_dataloader(), data.evaluation_loader("train"), unlabelled_loader(root / "val", data)):
        ((seen, _),) = loader
        for each in seen:
            np.testing.assert_array_equal(each.numpy(), read.pixels)
    # Training sees random parts of the same pixels.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        expected = training_geometry(data.facts)(read_image(path))
    assert torch.equal(data.train_dataloader().dataset.image(0, seed=3), expected)


def test_it_travels_as_json() -> None:
    preprocessing = Preprocessing.from_dict(GOOD)
    assert preprocessing.to_dict() == GOOD
    assert preprocessing == Preprocessing(24, 27, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert hash(preprocessing) == hash(Preprocessing.from_dict(preprocessing.to_dict()))
    grey = Preprocessing((28, 40), (32, 46), (0.5,), (0.25,))
    assert {name: grey.to_dict()[name] for name in ("image_size", "resize", "mean", "mode")} == {
        **{"image_size": [28, 40], "resize": [32, 46], "mean": [0.5], "mode": "L"}
    }
    assert Preprocessing.from_dict(grey.to_dict()) == grey


def test_exports_of_earlier_versions_are_read() -> None:
    before = {name: value for name, value in GOOD.items() if name != "mode"}
    assert Preprocessing.from_dict(before) == Preprocessing.from_dict(GOOD)


@pytest.mark.parametrize(
    "wrong",
    [
        {"image_size": 0},
        {"image_size": 24.0},
        {"image_size": True},
        {"resize": "27"},
        {"resize": 23},
        {"mean": [0.1, 0.2]},
        {"mean": 0.1},
        {"mean": [0.1, 0.2, float("nan")]},
        {"mean": [0.1]},
        {"mean": [0.1], "std": [0.5]},  # and the mode is RGB
        {"mode": "L"},
        {"image_size": [24]},
        {"image_size": [24, 28]},
        {"mean": [0.1, 0.2, "0.3"]},
        {"std": [0.4, 0.5, 0.0]},
        {"std": [0.4, 0.5, -0.6]},
        {"std": [0.4, 0.5, 1e-300]},
        {"std": [0.4, 0.5, float("inf")]},
        {"crop": 3},
        {"decoding": "ranet-0"},
        {"interpolation": "nearest"},
        {"antialias": False},
        {"flip": True},
    ],
)
def test_what_is_no_preprocessing_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"^[A-Z][^\n]*\.$"):
        Preprocessing.from_dict({**GOOD, **wrong})


def test_nothing_may_be_missing() -> None:
    for name in {*GOOD} - {"mode"}:
        with pytest.raises(UserError, match=r"must say its antialias, crop, .* mode, .* and nothing else"):
            Preprocessing.from_dict({key: value for key, value in GOOD.items() if key != name})
    with pytest.raises(UserError, match=r"must say its"):
        Preprocessing.from_dict([1, 2])  # type: ignore[arg-type]
