"""What the heads on a frozen backbone read, so that it is computed once for each image and not in every epoch."""

from __future__ import annotations

from math import prod
from typing import cast

import torch
from torch import Tensor, nn

from ranet.errors import UserError
from ranet.models.adapted.backbone import BackboneWithExits, BackboneWithLinearExits
from ranet.models.adapted.heads import AddedHead
from ranet.models.collaboration import InlineCollaboration
from ranet.models.staged import LinearHeads, StagedNetwork, State


class HeadsOnFeatures(StagedNetwork):
    """The heads of a network with added exits as a network of their own, from features instead of images.

    Args:
        network: the network, with which it shares the heads.
        shapes: of the features of each exit, without the batch.
    """

    def __init__(self, network: BackboneWithExits, shapes: list[tuple[int, ...]]) -> None:
        super().__init__(network.num_classes, network.image_size, network.image_shape[0])
        self.heads = network.heads
        self._pooled = tuple(map(is_pooled, network.heads))
        self._shapes = shapes

    def stem(self, images: Tensor) -> State:
        """Return the features of all exits, of (B, F) as `features_of` returns them."""
        parts = images.split([prod(shape) for shape in self._shapes], dim=1)
        return tuple(part.unflatten(1, shape) for part, shape in zip(parts, self._shapes, strict=True))

    def advance(self, k: int, state: State) -> State:
        """Return the features of exit k and of the later exits."""
        return state[1:] if k else state

    def answer(self, k: int, state: State) -> Tensor:
        """Return the logits (B, C) of exit k."""
        head = self.heads[k]
        return cast(AddedHead, head).linear(state[0]) if self._pooled[k] else head(state[0])


class LinearHeadsOnFeatures(HeadsOnFeatures, LinearHeads):
    """The same where all heads end in linear layers."""

    def features(self, k: int, state: State) -> Tensor:
        """Return what the linear layer of head k reads: (B, F_k)."""
        return state[0] if self._pooled[k] else cast(AddedHead, self.heads[k]).features(state[0])


def is_pooled(head: nn.Module) -> bool:
    """Return whether a head only pools before its linear layer, so that its features need no weights."""
    return isinstance(head, AddedHead) and not any(True for _ in head.read.parameters())


def with_added_exits(network: StagedNetwork) -> BackboneWithExits:
    """Return the network with added exits that a network is, or whose exits collaborate in it.

    Raises:
        UserError: if it is none.
    """
    inner = network.network if isinstance(network, InlineCollaboration) else network
    if not isinstance(inner, BackboneWithExits):
        raise UserError(
            f"Heads are trained on a frozen backbone, and {type(inner).__name__} has none: use model=with_exits with "
            "model.backbone=NAME and its weights=, or technique=plain."
        )
    return inner


@torch.no_grad()
def features_of(network: StagedNetwork, images: Tensor) -> Tensor:
    """Return what the heads read of images: (B, F), the flattened features of all exits one after the other.

    Args:
        network: one of `with_added_exits`.
        images: (B, in_channels, H, W).
    """
    return torch.cat([each.flatten(1) for each in _each(with_added_exits(network), images)], dim=1)


@torch.no_grad()
def on_features(network: StagedNetwork) -> StagedNetwork:
    """Return a network that answers `features_of` images as ``network`` answers the images, with the same parameters.

    Example:
        >>> from ranet.models.adapted.backbone import add_exits
        >>> small = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5))
        >>> network, images = add_exits(small, at=["1"], input_size=(3, 8, 8)).eval(), torch.randn(2, 3, 8, 8)
        >>> on_features(network)(features_of(network, images)).equal(network(images))
        True
    """
    inner = with_added_exits(network)
    example = next(inner.parameters()).new_zeros(1, *inner.image_shape)
    shapes = [tuple(each.shape[1:]) for each in _each(inner, example)]
    heads = (LinearHeadsOnFeatures if isinstance(inner, BackboneWithLinearExits) else HeadsOnFeatures)(inner, shapes)
    if not isinstance(network, InlineCollaboration):
        return heads
    collaborating = InlineCollaboration(heads, network.detach)
    collaborating.links = network.links
    return collaborating


def _each(network: BackboneWithExits, images: Tensor) -> list[Tensor]:
    """Return the features of each exit."""
    state, found = network.stem(images), []
    for k in range(network.num_exits):
        state = network.advance(k, state)
        head = network.heads[k]
        found.append(cast(AddedHead, head).features(state[0]) if is_pooled(head) else state[0])
    return found
