"""The contract that everything else stands on: a network cut at its exits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from ranet.errors import UserError

if TYPE_CHECKING:
    from ranet.models.papers.layers import ExitHead

State = tuple[Tensor, ...]


class StagedNetwork(nn.Module, ABC):
    """A multi-exit network as a chain of stages, each of which ends at an exit.

    With K exits and a batch of B images the network is this loop, and every user of it (training techniques, cost,
    calibration, early exit, export) walks the same cuts::

        state = network.stem(images)
        for k in range(network.num_exits):
            state = network.advance(k, state)
            logits = network.classify(k, state)

    A state is a flat tuple of floating-point tensors with the batch in dimension 0. It holds what head k and the later
    stages need and nothing else, so an image leaves a batch by ``state = tuple(t[alive] for t in state)``. Its last
    tensor is the map that head k reads.

    A network of your own calls ``super().__init__(num_classes, image_size)``, has ``heads`` (or sets ``num_exits``),
    and defines `stem`, `advance` and `classify`: the engine, costs, calibration, training and export need nothing
    else. What retrains the linear layers of the heads (two stages) or builds exits on each other (collaboration) needs
    a ``linear`` layer in each head and `features`, on which `classify` then stands by itself.

    Attributes:
        num_classes: number of classes C.
        image_size: height and width in pixels of the images that the network was built for.
        heads: a module for each of the K exits.
        heads_can_be_skipped: whether exit k can be answered without running the heads before it. If not, `classify`
            takes the logits of exit k - 1 as its third argument.
    """

    heads: nn.ModuleList
    heads_can_be_skipped: bool = True
    _num_exits: int | None = None

    def __init__(self, num_classes: int, image_size: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.image_size = image_size

    @property
    def num_exits(self) -> int:
        """Number of exits K: what it was set to, or the number of heads."""
        return len(self.heads) if self._num_exits is None else self._num_exits

    @num_exits.setter
    def num_exits(self, count: int) -> None:
        self._num_exits = count

    @abstractmethod
    def stem(self, images: Tensor) -> State:
        """Turn images (B, 3, H, W) into the state that stage 0 starts from."""

    @abstractmethod
    def advance(self, k: int, state: State) -> State:
        """Run the backbone from exit k - 1 (or the stem) to exit k."""

    def features(self, k: int, state: State) -> Tensor:
        """Return what the linear layer of head k reads, one vector per image: (B, F_k).

        Raises:
            UserError: if the network defines no features.
        """
        raise UserError(f"{type(self).__name__} must define classify, or features and a layer heads[k].linear.")

    def head(self, k: int) -> ExitHead:
        """Return head k as one with a linear layer.

        Raises:
            UserError: if it has none.
        """
        head = self.heads[k]
        if not isinstance(getattr(head, "linear", None), nn.Linear):
            raise UserError(
                f"{type(self).__name__} has no nn.Linear heads[{k}].linear, which collaboration between exits and "
                "training in two stages need."
            )
        return cast("ExitHead", head)

    def after_features(self) -> list[nn.Module]:
        """The modules that turn the features into logits: what is left to train when the backbone is frozen."""
        return [self.head(k).linear for k in range(self.num_exits)]

    def classify(self, k: int, state: State, previous_logits: Tensor | None = None) -> Tensor:
        """Return the logits (B, C) of exit k.

        Args:
            k: index of the exit, from 0.
            state: what ``advance(k, ...)`` returned.
            previous_logits: logits (B, C) of exit k - 1, for networks whose heads build on each other.
        """
        features = self.features(k, state)
        return self.head(k).linear(features)

    def exit_logits(self, k: int, state: State, previous_logits: Tensor | None) -> Tensor:
        """Return the logits (B, C) of exit k, with those of exit k - 1 given to `classify` where it needs them."""
        return self.classify(k, state) if self.heads_can_be_skipped else self.classify(k, state, previous_logits)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of every exit, (K, B, C), for images (B, 3, H, W)."""
        state = self.stem(images)
        logits: list[Tensor] = []
        for k in range(self.num_exits):
            state = self.advance(k, state)
            logits.append(self.exit_logits(k, state, logits[-1] if logits else None))
        return torch.stack(logits)

    def forward_to(self, images: Tensor, k: int) -> Tensor:
        """Return the logits (B, C) of exit k alone, running no later stage and no earlier head that can be skipped."""
        state = self.stem(images)
        previous: Tensor | None = None
        for j in range(k + 1):
            state = self.advance(j, state)
            if j == k or not self.heads_can_be_skipped:
                previous = self.exit_logits(j, state, previous)
        assert previous is not None
        return previous
