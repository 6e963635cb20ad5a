import hashlib
from typing import Any

import pytest
import torch
from sklearn.datasets import load_digits
from torch.nn import functional as F

from ranet.data.sets.catalogue import CATALOGUE
from ranet.data.sets.digits import DigitOptions, draw_canvases, make_digits
from ranet.data.sets.splits import derived_generator
from ranet.errors import UserError
from ranet.support.shapes import sides

PLAIN = DigitOptions(clutter=0, noise=0)


def source_digits() -> torch.Tensor:
    return torch.tensor(load_digits().images, dtype=torch.float64)


def test_sets_of_the_default_options() -> None:
    options = DigitOptions()
    sets = make_digits(options, 0.1, seed=0)
    train, validation, test = sets
    assert len(train) == 1213 * options.train_copies
    assert (len(validation), len(test)) == (135 * options.eval_copies, 449 * options.eval_copies)
    for samples in sets:
        assert samples.images.shape == (len(samples), 3, 32, 32)
        assert samples.images.dtype == torch.uint8
        assert samples.sizes is not None
        assert (samples.sizes.min(), samples.sizes.max()) == (options.min_size, options.max_size)
        assert samples.labels.unique().tolist() == list(range(10))
        assert torch.equal(samples.images[:, 0], samples.images[:, 2])
    pixels = train.images[:, 0].float() / 255
    assert pixels.mean().item() == pytest.approx(CATALOGUE["digits"].mean[0], abs=0.001)
    assert pixels.std().item() == pytest.approx(CATALOGUE["digits"].std[0], abs=0.001)


def test_the_canvases_are_the_same_bits_on_every_machine() -> None:
    options = DigitOptions(canvas=32, min_size=9, max_size=28, clutter=3, noise=16, train_copies=1, eval_copies=2)
    validation = make_digits(options, 0.1, seed=0)[1]
    assert hashlib.sha256(validation.images.numpy().tobytes()).hexdigest()[:16] == "67dfd0131a6cc148"


def test_no_source_digit_is_in_two_splits(monkeypatch: pytest.MonkeyPatch) -> None:
    # All that a split shows, digits and clutter, is drawn from the digits that draw_canvases is given.
    given: list[torch.Tensor] = []

    def spy(digits: torch.Tensor, *rest: object) -> tuple[torch.Tensor, torch.Tensor]:
        given.append(digits)
        return draw_canvases(digits, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr("ranet.data.sets.digits.draw_canvases", spy)
    make_digits(DigitOptions(train_copies=1, eval_copies=1), 0.1, seed=3)
    assert sum(map(len, given)) == 1797
    together = torch.cat(given).flatten(1)
    assert len(together.unique(dim=0)) == len(source_digits().flatten(1).unique(dim=0)) == 1797


def test_seed_and_copies() -> None:
    few = DigitOptions(train_copies=1, eval_copies=1)
    a, b, c = (make_digits(few, 0.1, seed)[2].images for seed in (0, 0, 1))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_digits_are_bilinear_images_of_the_source() -> None:
    digits = source_digits()[:50]
    images, sizes = draw_canvases(digits, 1, PLAIN, derived_generator("test"))
    for digit, image, size in zip(digits, images, sizes.tolist(), strict=True):
        scaled = F.interpolate(digit[None, None] / 16, size=(size, size), mode="bilinear")[0, 0]
        # Ink is a whole grey level, at least 128; the image is cut to whole levels and the weights to 64ths.
        ink = image.max().item() / scaled.max().item()
        windows = image[0].double().unfold(0, size, 1).unfold(1, size, 1)
        error = (windows - ink * scaled).abs().amax((2, 3)).min()
        assert error < 0.03 * 255
        assert 126 <= ink <= 257


def test_small_digits_have_less_ink_and_clutter_adds_some() -> None:
    digits = source_digits()
    plain, sizes = draw_canvases(digits, 1, PLAIN, derived_generator("test"))
    cluttered, same = draw_canvases(digits, 1, DigitOptions(clutter=4, noise=0), derived_generator("test"))
    assert torch.equal(sizes, same), "clutter is drawn after the digit's place"
    ink = plain[:, 0].double().mean((1, 2))
    assert ink[sizes < 12].mean() < ink[sizes > 24].mean() / 3
    assert cluttered.double().mean() > plain.double().mean()


@pytest.mark.parametrize("canvas", [16, 48, (20, 36), (36, 20)])
def test_other_canvases(canvas: int | tuple[int, int]) -> None:
    options = DigitOptions(canvas=canvas, channels=1, min_size=6, max_size=min(sides(canvas)), clutter=2)
    images, sizes = draw_canvases(source_digits()[:200], 3, options, derived_generator("test"))
    assert images.shape == (600, 1, *sides(canvas))
    assert sizes.max() <= options.max_size
    brightest = images.amax((0, 1))
    assert min(edge.amax() for line in (brightest, brightest.T) for edge in (line[0], line[-1])) > 128


@pytest.mark.parametrize("validation_size", [0, 1])
def test_none_or_one_digit_held_out(validation_size: int) -> None:
    options = DigitOptions(train_copies=1, eval_copies=2)
    assert len(make_digits(options, validation_size, seed=0)[1]) == 2 * validation_size


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_size": "small"}, "min_size=small must be an integer"),
        ({"min_size": 3}, "min_size=3"),
        ({"min_size": 20, "max_size": 10}, "max_size=10"),
        ({"max_size": 33}, "<= 32"),
        ({"canvas": (24, 40)}, "max_size=28 do not fit: 4 <= min_size <= max_size <= 24"),
        ({"clutter": -1}, "clutter=-1 must lie from 0 to 100"),
        ({"noise": 256}, "noise=256"),
        ({"train_copies": 0}, "train_copies=0"),
        ({"eval_copies": 0}, "eval_copies=0"),
    ],
)
def test_options_that_do_not_fit(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        DigitOptions(**options)
