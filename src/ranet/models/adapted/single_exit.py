"""An ordinary classifier as a staged network of one exit, which the engine's backends run as any other."""

from __future__ import annotations

from torch import Tensor, nn

from ranet.models.staged import StagedNetwork, State
from ranet.support.shapes import ImageSize


class SingleExit(StagedNetwork):
    """A classifier without early exit as a `StagedNetwork` whose one stage is the whole classifier.

    Args:
        module: from images (B, in_channels, H, W) to logits (B, C).
        num_classes: C.
        image_size: side of the square images in pixels, or their (height, width).
        in_channels: of the images.

    Example:
        >>> import torch
        >>> network = SingleExit(nn.Sequential(nn.Flatten(), nn.Linear(48, 10)), num_classes=10, image_size=4)
        >>> network(torch.zeros(2, 3, 4, 4)).shape
        torch.Size([1, 2, 10])
    """

    def __init__(self, module: nn.Module, num_classes: int, image_size: ImageSize, in_channels: int = 3) -> None:
        super().__init__(num_classes, image_size, in_channels)
        self.num_exits = 1
        self.module = module

    def stem(self, images: Tensor) -> State:
        """Return the images."""
        return (images,)

    def advance(self, k: int, state: State) -> State:
        """Run the classifier."""
        return (self.module(state[0]),)

    def answer(self, k: int, state: State) -> Tensor:
        """Return the logits of the classifier."""
        return state[0]
