"""The CIFAR ResNets (He et al., CVPR 2016, section 4.2, arXiv 1512.03385), as staged networks of one exit."""

from __future__ import annotations

from itertools import pairwise
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from ranet.errors import UserError, require_known
from ranet.models.papers.layers import ConvNorm, ConvNormReLU
from ranet.models.staged import LinearHeads, State
from ranet.support.numbers import require_count
from ranet.support.shapes import ImageSize


class ZeroPaddedShortcut(nn.Module):
    """The shortcut of option A, without parameters: every second pixel, and channels of zeros on both sides.

    Args:
        in_channels: of the map.
        out_channels: of the result.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        before = (out_channels - in_channels) // 2
        self.channels = (before, out_channels - in_channels - before)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in, H, W) to (B, out, ceil(H / 2), ceil(W / 2))."""
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, *self.channels))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch normalisation, and a shortcut around them.

    Args:
        in_channels: of the map.
        out_channels: of the result; if they are more, the first convolution has stride 2.
        shortcut: what the shortcut does where channels are added: "A" pads zeros, "B" is a 1x1 convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, shortcut: str) -> None:
        super().__init__()
        stride = 1 if in_channels == out_channels else 2
        self.conv1 = ConvNormReLU(in_channels, out_channels, kernel=3, stride=stride)
        self.conv2 = ConvNorm(out_channels, out_channels, kernel=3)
        self.shortcut: nn.Module = nn.Identity()
        if stride == 2 and shortcut == "A":
            self.shortcut = ZeroPaddedShortcut(in_channels, out_channels)
        elif stride == 2:
            self.shortcut = ConvNorm(in_channels, out_channels, kernel=1, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in, H, W) to (B, out, ceil(H / stride), ceil(W / stride))."""
        return F.relu(self.conv2(self.conv1(x)) + self.shortcut(x), inplace=True)


class PooledLinear(nn.Module):
    """A head that averages the map over its pixels; its layer ``linear`` turns these features into logits."""

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(in_channels, num_classes)

    def features(self, x: Tensor) -> Tensor:
        """Map (B, in, H, W) to (B, in)."""
        return self.pool(x).flatten(1)


class ResNetCifar(LinearHeads):
    """A residual network of 6n + 2 layers: a 3x3 convolution, three times n basic blocks, and a linear layer.

    The three ``nn.Sequential`` ``layer1``, ``layer2`` and ``layer3`` hold the blocks. Their maps have the size of the
    images, half of it and a quarter, and 1, 2 and 4 times ``channels``. The one exit is the end of the network.

    Args:
        num_classes: number of classes.
        image_size: side of square images in pixels, or (height, width).
        in_channels: channels of the images.
        depth: number of layers, 6n + 2: 20, 32, 44, 56 and 110 are published.
        channels: width of the first blocks.
        shortcut: "A" (published for CIFAR) or "B" where a block adds channels (`BasicBlock`).

    Raises:
        UserError: if no network can be built from these options.
    """

    def __init__(
        self,
        num_classes: int = 10,
        image_size: ImageSize = 32,
        in_channels: int = 3,
        depth: int = 20,
        channels: int = 16,
        shortcut: str = "A",
    ) -> None:
        super().__init__(num_classes, image_size, in_channels)
        require_known("shortcut", shortcut, ["A", "B"])
        require_count("channels", channels)
        if not isinstance(depth, int) or depth < 8 or depth % 6 != 2:
            raise UserError(f"depth={depth} must be 6n + 2 with n of at least 1, such as 8, 20, 32, 44, 56 or 110.")
        self.first = ConvNormReLU(in_channels, channels, kernel=3)
        widths = [channels, channels, 2 * channels, 4 * channels]
        self.layer1, self.layer2, self.layer3 = (
            nn.Sequential(*(BasicBlock(before if i == 0 else width, width, shortcut) for i in range(depth // 6)))
            for before, width in pairwise(widths)
        )
        self.heads = nn.ModuleList([PooledLinear(widths[-1], num_classes)])
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)
        nn.init.zeros_(self.readouts[0].bias)

    def stem(self, images: Tensor) -> State:
        """Return the map of the first convolution."""
        return (self.first(images),)

    def advance(self, k: int, state: State) -> State:
        """Run all blocks."""
        return (self.layer3(self.layer2(self.layer1(state[0]))),)

    def features(self, k: int, state: State) -> Tensor:
        """Return the mean of each channel: (B, 4 * channels)."""
        return cast(PooledLinear, self.heads[k]).features(state[0])
