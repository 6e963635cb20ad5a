"""Images whose crops can be told apart, and samples that can be told apart."""

import torch
from torchvision.transforms import v2

from ranet.data.loading.loader import EpochLoader
from ranet.data.sets.sources import TensorSet

DRAWS = 9 * 9 * 2


def unique_pixels() -> torch.Tensor:
    """A 3x32x32 image in which the position of every pixel can be read: no two pixels are equal, none is black."""
    number = torch.arange(1, 1025).view(32, 32)
    return torch.stack([number % 251, number // 251, torch.full_like(number, 7)]).to(torch.uint8)


def all_outcomes() -> tuple[torch.Tensor, dict[bytes, int]]:
    """What torchvision's own operations give for each of the 9 * 9 windows, plain and mirrored."""
    padded = v2.functional.pad(unique_pixels(), [4])
    outcomes = []
    for draw in range(DRAWS):
        window = v2.functional.crop(padded, draw // 18, draw // 2 % 9, 32, 32)
        outcomes.append(v2.functional.horizontal_flip(window) if draw % 2 else window)
    stacked = torch.stack(outcomes)
    return stacked, {image.numpy().tobytes(): draw for draw, image in enumerate(stacked)}


def samples(count: int = 100) -> TensorSet:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (count, 3, 32, 32), generator=generator, dtype=torch.uint8)
    return TensorSet(images, torch.arange(count))


def by_label(loader: EpochLoader) -> torch.Tensor:
    """The images of an epoch in the order of their labels, which are all different."""
    images, labels = map(torch.cat, zip(*loader, strict=True))
    return images[labels.argsort()]
