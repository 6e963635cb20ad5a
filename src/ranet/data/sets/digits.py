"""The built-in data set: real handwritten digits of random size among fragments of other digits.

The digits are the 1,797 of scikit-learn (Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits", UCI, 1998;
8x8 pixels, values 0 to 16). Each is placed on a canvas at a random size and position. Small digits among clutter are
hard and large ones easy, so early exits can help. The size is stored with each sample.

All arithmetic is on integers, so the canvases are the same bits on every machine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from sklearn.datasets import load_digits
from torch import Tensor

from ranet.data.sets.sources import TensorSet
from ranet.data.sets.splits import derived_generator, hold_out, hold_out_stratified
from ranet.errors import UserError
from ranet.support.shapes import ImageSize, sides

_SIDE, _FULL_INK = 8, 16  # the source digits: pixels a side, and the value of full ink
_TEST_SHARE = 0.25
_LEVELS = 64  # interpolation weights are multiples of 1/64


@dataclass(frozen=True)
class DigitOptions:
    """The options of placing digits."""

    canvas: ImageSize = 32  # the side of the canvas in pixels, or its (height, width)
    channels: int = 3  # the number of channels of the images, all with the same grey
    min_size: int = 9  # the smallest side of a digit in pixels
    max_size: int = 28  # the largest side of a digit in pixels
    clutter: int = 6  # the number of fragments of other digits on each canvas
    noise: int = 16  # the amplitude of the noise, in grey levels of 255
    train_copies: int = 8  # how often each training digit is placed
    eval_copies: int = 5  # how often each validation and test digit is placed

    def __post_init__(self) -> None:
        for option, value in vars(self).items():
            if option != "canvas" and not isinstance(value, int):
                raise UserError(f"data.{option}={value} must be an integer.")
        shorter = min(sides(self.canvas))
        if not 4 <= self.min_size <= self.max_size <= shorter:
            raise UserError(
                f"data.min_size={self.min_size} and data.max_size={self.max_size} do not fit: "
                f"4 <= min_size <= max_size <= {shorter} (the canvas) must hold."
            )
        limits = {"clutter": (0, 100), "noise": (0, 255), "train_copies": (1, 1000), "eval_copies": (1, 1000)}
        for option, (least, most) in limits.items():
            if not least <= getattr(self, option) <= most:
                raise UserError(f"data.{option}={getattr(self, option)} must lie from {least} to {most}.")


def make_digits(
    options: DigitOptions, validation_size: int | float, seed: int
) -> tuple[TensorSet, TensorSet, TensorSet]:
    """Draw the training, validation and test canvases, with one seed for the splits and all placements.

    The three have no source digit in common, neither as the digit to be recognised nor in the clutter. The validation
    size is a number or a share of the source digits that are not for testing.
    """
    source = load_digits()
    digits, labels = torch.tensor(source.images, dtype=torch.float64), torch.tensor(source.target)
    rest, test = hold_out(len(labels), _TEST_SHARE, seed, purpose="test digits")
    train, validation = hold_out_stratified(labels[rest], validation_size, seed)
    parts = {"train": rest[train], "validation": rest[validation], "test": test}
    sets = []
    for name, part in parts.items():
        copies = options.train_copies if name == "train" else options.eval_copies
        generator = derived_generator("digits", name, seed)
        images, sizes = draw_canvases(digits[part], copies, options, generator)
        sets.append(TensorSet(images, labels[part].repeat(copies), sizes))
    return sets[0], sets[1], sets[2]


def draw_canvases(
    digits: Tensor, copies: int, options: DigitOptions, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Place each of n digits, float64 (n, 8, 8) with integers 0 to 16; copy c of digit i is canvas ``c * n + i``.

    Returns:
        uint8 (copies * n, C, H, W) and the sizes in pixels, int64 (copies * n,).
    """
    count, number, (height, width) = len(digits), len(digits) * copies, sides(options.canvas)

    def uniform(low: int | Tensor, high: int | Tensor) -> Tensor:
        """Draw one integer for each canvas, from low to high inclusive."""
        fraction = torch.randint(2**31, (number,), generator=generator)
        return low + ((high - low + 1) * fraction >> 31)

    def ink(chosen: Tensor) -> Tensor:
        """Return the chosen digits with full ink at a random grey from 128 to 255, in sixteenths: (number, 8, 8)."""
        return digits[chosen] * uniform(128, 255).view(-1, 1, 1)

    sizes = uniform(options.min_size, options.max_size)
    top, left = uniform(0, height - sizes), uniform(0, width - sizes)
    which = torch.arange(count).repeat(copies)
    rows, columns = _weights(top, sizes, height), _weights(left, sizes, width)
    scene = torch.zeros(number, height, width, dtype=torch.float32)
    for _ in range(options.clutter):
        # Half the height and half the width of another digit: too little of it to be taken for the digit.
        other, size = (which + uniform(1, count - 1)) % count, uniform(options.min_size, options.max_size)
        window_rows, window_columns = (_window(uniform, size, length) for length in (height, width))
        scene = torch.maximum(scene, _draw(ink(other), window_rows, window_columns))
    # The digit lies on top: its own square shows no clutter.
    square = (rows.sum(2) > 0).unsqueeze(2) & (columns.sum(2) > 0).unsqueeze(1)
    scene = torch.where(square, _draw(ink(which), rows, columns), scene)
    grey = scene.div(_FULL_INK * _LEVELS**2, rounding_mode="floor").to(torch.int16)
    # The difference of two uniform draws: integer noise with a peak at zero.
    draws = torch.randint(options.noise + 1, (2, number, height, width), generator=generator, dtype=torch.int16)
    grey = (grey + draws[0] - draws[1]).clamp(0, 255).to(torch.uint8)
    return grey.unsqueeze(1).repeat(1, options.channels, 1, 1), sizes


def _window(uniform: Callable[[int | Tensor, int | Tensor], Tensor], size: Tensor, canvas: int) -> Tensor:
    """Return the weights, along one direction, of a random half of a digit of this size, anywhere on the canvas."""
    length = size // 2
    start = uniform(0, canvas - length)
    weights = _weights(start - uniform(0, size - length), size, canvas)
    position = torch.arange(canvas) - start.unsqueeze(1)
    return weights * ((position >= 0) & (position < length.unsqueeze(1))).unsqueeze(2)


def _draw(digits: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Scale and place digits by one small matrix for the rows and one for the columns: float32 (n, canvas, canvas).

    Integers up to 16 * 255 * 64 * 64 < 2^24 are exact in float32, in any order of addition. Only the product is in
    float64, because processors can be set to multiply float32 with reduced precision.
    """
    return (rows @ digits @ columns.transpose(1, 2)).float()


def _weights(start: Tensor, size: Tensor, canvas: int) -> Tensor:
    """Return the weights, in 64ths, of the 8 source pixels in each canvas pixel for bilinear scaling in one direction.

    Digits of int64 (n,) sizes start at int64 (n,) pixels of the canvas; parts outside are cut off. The weights are
    integers in float64 (n, canvas, 8); each row adds up to 64 inside the digit's square and to 0 outside.
    """
    size = size.view(-1, 1, 1).double()
    pixel = torch.arange(canvas).view(1, -1, 1) - start.view(-1, 1, 1)
    # The centre of a canvas pixel in units of source pixels; beyond the outermost centres their values continue.
    place = ((pixel + 0.5) * _SIDE / size - 0.5).clamp(0, _SIDE - 1)
    weight = (1 - (place - torch.arange(_SIDE)).abs()).clamp(min=0)
    return (weight * _LEVELS).round().where((pixel >= 0) & (pixel < size), 0)
