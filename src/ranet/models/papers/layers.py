"""The parts that the networks share: convolution units, exit heads, stems and the initialisation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ranet.errors import UserError, require_known
from ranet.models.papers.pointwise import PointwiseConv2d

Style = Literal["cifar", "imagenet"]

#: Edge in pixels of the largest images that get the stem and heads of the CIFAR networks by default.
LARGEST_CIFAR_STYLE_IMAGE = 64
#: Edge of the smallest map that a head can read: its two strided convolutions halve it twice.
SMALLEST_HEAD_MAP = 4


class ConvNorm(nn.Module):
    """Convolution without bias, then batch normalisation, which inference folds into the convolution."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = (
            PointwiseConv2d(in_channels, out_channels)
            if kernel == stride == 1
            else nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, bias=False)
        )
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in, H, W) to (B, out, ceil(H / stride), ceil(W / stride))."""
        return self.norm(self.conv(x))


class ConvNormReLU(ConvNorm):
    """Convolution without bias, batch normalisation, ReLU."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in, H, W) to (B, out, ceil(H / stride), ceil(W / stride))."""
        return F.relu(super().forward(x), inplace=True)


class DenseUnit(nn.Module):
    """The post-activation unit of a dense layer: a 1x1 bottleneck, then a 3x3 convolution with stride 1 or 2.

    The bottleneck is min(in_channels, bottleneck_factor * out_channels) wide.
    """

    def __init__(self, in_channels: int, out_channels: int, bottleneck_factor: int, stride: int = 1) -> None:
        super().__init__()
        width = min(in_channels, bottleneck_factor * out_channels)
        self.bottleneck = ConvNormReLU(in_channels, width, kernel=1)
        self.conv = ConvNormReLU(width, out_channels, kernel=3, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in, H, W) to (B, out, ceil(H / stride), ceil(W / stride))."""
        return self.conv(self.bottleneck(x))


class ExitHead(nn.Module):
    """An exit: two strided 3x3 convolutions and average pooling give a vector, a linear layer the logits.

    The published heads pool a 2x2 map into one pixel; here the pooling adapts to whatever map is left, which is the
    same thing for the published input sizes.

    Args:
        in_channels: channels of the map that the head reads.
        num_classes: number of classes.
        style: "cifar" heads are 128 wide, "imagenet" heads as wide as their input.
    """

    def __init__(self, in_channels: int, num_classes: int, style: Style) -> None:
        super().__init__()
        width = 128 if style == "cifar" else in_channels
        self.conv1 = ConvNormReLU(in_channels, width, kernel=3, stride=2)
        self.conv2 = ConvNormReLU(width, width, kernel=3, stride=2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(width, num_classes)

    def features(self, x: Tensor) -> Tensor:
        """Map (B, in, H, W) to the vector that the linear layer reads, (B, width)."""
        return self.pool(self.conv2(self.conv1(x))).flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in, H, W) to logits (B, num_classes)."""
        return self.linear(self.features(x))


class ImageNetStem(nn.Sequential):
    """The first layer of the ImageNet networks: Conv7x7 stride 2 (with bias), BN, ReLU, 3x3 max-pooling stride 2."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, 7, stride=2, padding=3),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2, padding=1),
        )


def first_layer(in_channels: int, out_channels: int, style: Style) -> nn.Module:
    """Return the first layer: Conv3x3-BN-ReLU for "cifar", ``ImageNetStem`` (a quarter of the size) for "imagenet"."""
    if style == "cifar":
        return ConvNormReLU(in_channels, out_channels, kernel=3)
    return ImageNetStem(in_channels, out_channels)


def choose_style(option: str, value: str | None, shape: Sequence[int]) -> Style:
    """Return the style of a stem or head: the given one, or that of the published networks for this image size."""
    if value is None:
        return "cifar" if max(shape[1:]) <= LARGEST_CIFAR_STYLE_IMAGE else "imagenet"
    require_known(f"value of {option}", value, ["cifar", "imagenet"])
    return cast(Style, value)


def check_head_map(shape: Sequence[int], stem: Style, halvings: int) -> None:
    """Refuse images whose map is too small for a head after the stem and that many halvings.

    Raises:
        UserError: if the map that the heads read would be smaller than ``SMALLEST_HEAD_MAP``.
    """
    reduction = 2 ** (halvings + (2 if stem == "imagenet" else 0))
    side = min(shape[1:])
    size = math.ceil(side / reduction)
    if size < SMALLEST_HEAD_MAP:
        smallest = (SMALLEST_HEAD_MAP - 1) * reduction + 1
        raise UserError(
            f"Images of {side} pixels are too small: the heads would read a {size}x{size} map and need "
            f"{SMALLEST_HEAD_MAP}x{SMALLEST_HEAD_MAP}; use image_size >= {smallest}, fewer scales or stem=cifar."
        )


def initialise(network: nn.Module) -> None:
    """Initialise as both papers say: convolutions N(0, sqrt(2 / (k * k * out))), BN weight 1 bias 0, linear bias 0."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels
            nn.init.normal_(module.weight, 0.0, math.sqrt(2.0 / fan_out))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)


def resize_like(x: Tensor, reference: Tensor) -> Tensor:
    """Resize x bilinearly (corners aligned) to the height and width of the reference; equal sizes pass untouched."""
    if x.shape[-2:] == reference.shape[-2:]:
        return x
    return F.interpolate(x, size=reference.shape[-2:], mode="bilinear", align_corners=True)


def concatenate(*maps: Tensor) -> Tensor:
    """Concatenate maps of one size along the channels."""
    return torch.cat(maps, dim=1)
