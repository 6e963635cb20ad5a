"""Rectangles to erase from training images: random erasing and cutout, drawn for a whole epoch."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ranet.errors import UserError
from ranet.support.shapes import ImageSize, sides

# The defaults of torchvision's RandomErasing, whose distribution this is (Zhong et al. erase up to 0.4).
_AREA = (0.02, 0.33)
_ASPECT = (0.3, 3.3)
_ATTEMPTS = 10


@dataclass(frozen=True)
class Erasing:
    """The rectangles to erase from each training image, drawn for a whole epoch at once.

    Random erasing (Zhong et al., AAAI 2020) erases one rectangle from some of the images: its area is uniform from 2 %
    to 33 % of the image, its height over its width log-uniform from 0.3 to 3.3, and it lies within the image. Shapes
    that do not fit are drawn again, ten times at most, as in torchvision's ``RandomErasing``. Cutout (DeVries & Taylor,
    2017) erases a square around a uniformly chosen pixel from every image; parts outside the image are cut off.

    Args:
        probability: probability that random erasing erases a rectangle of an image; 0 is off.
        cutout: side in pixels of cutout's square; 0 is off.
        image_size: the side of the images in pixels, or their (height, width).

    Raises:
        UserError: if a value is out of its range.
    """

    probability: float
    cutout: int
    image_size: ImageSize

    def __post_init__(self) -> None:
        number = isinstance(self.probability, int | float) and not isinstance(self.probability, bool)
        if not number or not 0 <= self.probability <= 1:
            raise UserError(f"erasing={self.probability} must be a probability from 0 to 1.")
        whole = isinstance(self.cutout, int) and not isinstance(self.cutout, bool)
        shorter = min(sides(self.image_size))
        if not whole or not 0 <= self.cutout <= shorter:
            raise UserError(
                f"cutout={self.cutout} must be an integer number of pixels from 0 to {shorter}, the shorter side of "
                "the images."
            )

    @property
    def enabled(self) -> bool:
        """Whether anything is ever erased."""
        return self.probability > 0 or self.cutout > 0

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw the rectangles of ``count`` images.

        Returns:
            int64 (count, R, 4) on the CPU: first row, first column, row after the last, column after the last of each
            of the R = 0, 1 or 2 rectangles of an image; an empty one where nothing is erased.
        """
        kinds = []
        if self.probability > 0:
            kinds.append(self._draw_random(count, generator))
        if self.cutout > 0:
            kinds.append(self._draw_squares(count, generator))
        return torch.stack(kinds, dim=1) if kinds else torch.zeros(count, 0, 4, dtype=torch.int64)

    def _draw_random(self, count: int, generator: torch.Generator) -> Tensor:
        full, boxes = sides(self.image_size), torch.zeros(count, 4, dtype=torch.int64)

        def uniform(number: int) -> Tensor:
            # Double precision, so that the rounding below does not depend on the processor's square root.
            return torch.rand(number, generator=generator, dtype=torch.float64)

        waiting = (uniform(count) < self.probability).nonzero().squeeze(1)
        low, high = math.log(_ASPECT[0]), math.log(_ASPECT[1])
        for _ in range(_ATTEMPTS):
            area = full[0] * full[1] * (_AREA[0] + (_AREA[1] - _AREA[0]) * uniform(len(waiting)))
            aspect = (low + (high - low) * uniform(len(waiting))).exp()
            height, width = ((area * ratio).sqrt().round().long() for ratio in (aspect, 1 / aspect))
            top, left = (
                (uniform(len(waiting)) * (all_of - side + 1)).floor().long()
                for all_of, side in zip(full, (height, width), strict=True)
            )
            fits = (height < full[0]) & (width < full[1])
            boxes[waiting[fits]] = torch.stack([top, left, top + height, left + width], dim=1)[fits]
            waiting = waiting[~fits]
        return boxes

    def _draw_squares(self, count: int, generator: torch.Generator) -> Tensor:
        full = torch.tensor(sides(self.image_size))
        # Both sides divide the range, so rows and columns are uniform.
        centre = torch.randint(math.lcm(*full.tolist()), (count, 2), generator=generator) % full
        begin = centre - self.cutout // 2
        return torch.cat([begin, begin + self.cutout], dim=1).clamp(min=0).minimum(full.repeat(2))


def erase(images: Tensor, boxes: Tensor) -> Tensor:
    """Fill rectangles with 0, which after normalisation is the mean colour of the data set; return the images.

    The images, float (B, C, H, W), are changed in place. The boxes, int64 (B, R, 4) on their device, are from
    :meth:`Erasing.draw`.
    """
    top, left, bottom, right = boxes.unsqueeze(-1).unbind(2)
    row, column = (torch.arange(length, device=images.device) for length in images.shape[2:])
    rows, columns = (top <= row) & (row < bottom), (left <= column) & (column < right)
    inside = (rows.unsqueeze(3) & columns.unsqueeze(2)).any(1, keepdim=True)
    return images.masked_fill_(inside, 0.0)
