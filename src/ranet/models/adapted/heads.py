"""Heads for the maps of any backbone: channels first or last, tokens, or vectors."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from ranet.errors import UserError, first_line, require_known
from ranet.models.staged import without_data

#: Makes a head from the shape of what it reads, without the batch, and the number of classes.
MakeHead = Callable[[tuple[int, ...], int], nn.Module]


class AddedHead(nn.Module):
    """A head that reads a map into a vector, and the vector into logits.

    Args:
        read: from a map to vectors (B, F).
        linear: from these to logits (B, C).
    """

    def __init__(self, read: nn.Module, linear: nn.Linear) -> None:
        super().__init__()
        self.read = read
        self.linear = linear

    def features(self, x: Tensor) -> Tensor:
        """Return the vectors (B, F) that the linear layer reads."""
        return self.read(x)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (B, C)."""
        return self.linear(self.features(x))


class BackboneHead(nn.Module):
    """The last linear layer of a backbone as a head; its weights stay where they are.

    Args:
        backbone: a classifier that ends in this layer.
        path: of the layer.
    """

    def __init__(self, backbone: nn.Module, path: str) -> None:
        super().__init__()
        self._backbone = (backbone,)  # in a tuple, so that it is not a submodule a second time
        self.path = path

    @property
    def linear(self) -> nn.Linear:
        """The layer."""
        return cast(nn.Linear, self._backbone[0].get_submodule(self.path))

    def features(self, x: Tensor) -> Tensor:
        """Return what the layer reads (B, F), as it is given."""
        return x

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (B, C)."""
        return self.linear(x)


class ClassToken(nn.Module):
    """The first of some tokens (B, N, D): (B, D)."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the first token."""
        return x[:, 0]


class Mean(nn.Module):
    """The mean over all but the images and the last dimension: (B, ..., D) to (B, D)."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the mean."""
        return x.flatten(1, -2).mean(dim=1)


class ChannelsFirst(nn.Module):
    """Maps (B, H, W, C) as (B, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the same maps with the channels before height and width."""
        return x.permute(0, 3, 1, 2)


def make_head(
    kind: str | MakeHead, place: str, shape: tuple[int, ...], class_token: bool, num_classes: int, images: Sequence[int]
) -> nn.Module:
    """Return a new head.

    "linear" pools a map and has a linear layer. Tokens and maps with the channels last pass a LayerNorm before, because
    the backbones that have them normalise only at their end. "conv" has a 3x3 convolution of each channel by itself and
    a 1x1 convolution before the pooling, with batch normalisation and ReLU.

    Args:
        kind: "linear", "conv", or a function of shape and number of classes that makes a module.
        place: name of the place in the backbone.
        shape: of what the head reads there, without the batch.
        class_token: read the first token, and not the mean of all.
        num_classes: number of classes C.
        images: the shape (in_channels, H, W) of the images.

    Raises:
        UserError: if there is no such head, or it cannot read what is there.
    """
    if not isinstance(kind, str):
        return _given(kind, shape, num_classes, place)
    require_known("head", kind, ["linear", "conv"])
    channels_last = len(shape) == 3 and _channels_last(shape, images)
    channels = shape[0] if len(shape) == 3 and not channels_last else shape[-1]
    layers: list[nn.Module] = []
    if kind == "conv":
        if len(shape) != 3:
            raise UserError(f'head="conv" reads maps, and {place} gives {shape} for each image; use head="linear".')
        layers = [
            *([ChannelsFirst()] if channels_last else []),
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False),
            nn.Conv2d(channels, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
        ]
    if len(shape) == 3 and (layers or not channels_last):
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    elif len(shape) > 1:
        layers = [nn.LayerNorm(channels), ClassToken() if class_token else Mean()]
    return AddedHead(nn.Sequential(*layers), nn.Linear(channels, num_classes))


def _channels_last(shape: Sequence[int], images: Sequence[int]) -> bool:
    """Return whether the first two sizes of a map are more like height to width of the images than the last two."""
    aspect = images[1] / images[2]
    first, second = (abs(math.log(shape[i] / shape[i + 1] / aspect)) for i in (0, 1))
    return first < second


def _given(make: MakeHead, shape: tuple[int, ...], num_classes: int, place: str) -> nn.Module:
    """Return a head of the user's; one that is a sequence with a linear layer at its end as any added head."""
    head = make(shape, num_classes)
    if not isinstance(head, nn.Module):
        raise UserError(
            f"head= must make an nn.Module from a shape and the number of classes; it made a {type(head).__name__}."
        )
    try:
        with torch.no_grad():
            answer = without_data(head).eval()(torch.empty(2, *shape, device="meta"))
    except Exception as error:
        raise UserError(f"The head for {place} cannot read {shape} for each image ({first_line(error)}).") from error
    if not isinstance(answer, Tensor) or answer.shape != (2, num_classes):
        got = tuple(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__
        raise UserError(f"The head for {place} must return logits (images, {num_classes}), and returns {got} for two.")
    if type(head) is nn.Sequential and isinstance(head[-1], nn.Linear):
        return AddedHead(head[:-1], head[-1])
    return head
