"""The contract that everything else stands on: a network cut at its exits."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from ranet.errors import UserError
from ranet.support.shapes import ImageSize, TensorSpec, checked_image_size, image_shape

State = tuple[Tensor, ...]
Module = TypeVar("Module", bound=nn.Module)
#: Gives the state that head k reads, and the state that the rest of the network reads.
Fork = Callable[[int, State], tuple[State, State]]


class StagedNetwork(nn.Module, ABC):
    """A multi-exit network as a chain of stages, each of which ends at an exit.

    With K exits and a batch of B images the network is this loop, and every user of it (training techniques, cost,
    calibration, early exit, export) walks the same cuts::

        state = network.stem(images)
        for k in range(network.num_exits):
            state = network.advance(k, state)
            logits = network.answer(k, state)
            state = network.carry(k, state, logits)

    A state is a flat tuple of floating-point tensors with the batch in dimension 0. It holds what head k and the later
    stages need and, but for the record of ``optional_parts``, nothing else. So an image leaves a batch by
    ``state = tuple(t[alive] for t in state)``.

    A network of your own calls ``super().__init__(num_classes, image_size)`` (with ``in_channels`` for images that are
    not RGB), has ``heads`` (or sets ``num_exits``), and defines `stem`, `advance` and `answer`: the engine, costs,
    calibration, training and export need nothing else. If its heads build on each other it defines `carry`, too; if
    their last layers are linear, `LinearHeads` makes it ready for collaboration between exits and for training in two
    stages.

    Attributes:
        num_classes: number of classes C.
        image_size: side in pixels of the square images that the network was built for, or their (height, width).
        heads: a module for each of the K exits.
        optional_parts: names of the P submodules that an image may go without, such as the residual branches of a
            network that skips; empty for most networks. What each image has executed is then the first tensor of every
            state that `stem`, `advance` and `carry` return: (B, P), 1 where the part was executed, else 0; soft in
            training.
    """

    heads: nn.ModuleList
    optional_parts: tuple[str, ...] = ()
    _num_exits: int | None = None

    def __init__(self, num_classes: int, image_size: ImageSize, in_channels: int = 3) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.image_size = checked_image_size(image_size)
        self._in_channels = in_channels

    @property
    def input_spec(self) -> TensorSpec:
        """One image: its name in graphs and its shape (in_channels, H, W)."""
        return TensorSpec("images", self.image_shape)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """The shape (in_channels, H, W) of the images that the network was built for."""
        return image_shape(self.image_size, self._in_channels)

    @property
    def output_spec(self) -> TensorSpec:
        """The answer of an exit about one image: its name in graphs and its shape (C,)."""
        return TensorSpec("logits", (self.num_classes,))

    @property
    def num_exits(self) -> int:
        """Number of exits K: what it was set to, or the number of heads."""
        return len(self.heads) if self._num_exits is None else self._num_exits

    @num_exits.setter
    def num_exits(self, count: int) -> None:
        self._num_exits = count

    @property
    def heads_can_be_skipped(self) -> bool:
        """Whether exit k can be answered without running the heads before it: nothing carries their answers."""
        return type(self).carry is StagedNetwork.carry

    @abstractmethod
    def stem(self, images: Tensor) -> State:
        """Turn images (B, in_channels, H, W) into the state that stage 0 starts from."""

    @abstractmethod
    def advance(self, k: int, state: State) -> State:
        """Run the backbone from exit k - 1 (or the stem) to exit k."""

    @abstractmethod
    def answer(self, k: int, state: State) -> Tensor:
        """Run head k on the state that ``advance(k, ...)`` returned, and return its logits (B, C)."""

    def carry(self, k: int, state: State, answer: Tensor) -> State:
        """Return the state that stage k + 1 starts from: here as it is, without the answer of exit k.

        A network whose later exits build on earlier answers puts the answer into the state, as the same tensor.
        """
        return state

    def walk(self, images: Tensor, fork: Fork | None = None) -> Iterator[tuple[int, State, Tensor]]:
        """Run the network from exit to exit.

        Args:
            images: (B, in_channels, H, W).
            fork: called with k and the state at exit k before its head runs. It returns the state that the head reads
                and the state that the later stages read, both with the same values.

        Yields:
            For each exit: k, the state that the later stages read, and the logits (B, C).
        """
        state = self.stem(images)
        for k in range(self.num_exits):
            state = self.advance(k, state)
            read, state = (state, state) if fork is None else fork(k, state)
            answer = self.answer(k, read)
            yield k, state, answer
            state = self.carry(k, state, answer)

    def begins_at(self, first: int, last: int) -> int:
        """Return the first stage that is really run when stages ``first`` to ``last`` run as one: here ``first``.

        It is a later one where the network does not need the stages before it, as in a cascade of networks that answer
        alone.
        """
        return first

    def run(self, first: int, last: int, state: State) -> tuple[State, Tensor]:
        """Run stages ``first`` to ``last`` as one, with no head between them that can be skipped.

        Args:
            first: the first stage, from 0.
            last: the last stage.
            state: what `stem` or `carry` returned before stage ``first``.

        Returns:
            The state at exit ``last`` and its logits (B, C).
        """
        for k in range(first, last):
            state = self.advance(k, state)
            if not self.heads_can_be_skipped:
                state = self.carry(k, state, self.answer(k, state))
        state = self.advance(last, state)
        return state, self.answer(last, state)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of every exit, (K, B, C), for images (B, in_channels, H, W)."""
        return torch.stack([answer for _, _, answer in self.walk(images)])

    def forward_to(self, images: Tensor, k: int) -> Tensor:
        """Return the logits (B, C) of exit k alone, running no later stage and no earlier head that can be skipped."""
        return self.run(0, k, self.stem(images))[1]


class LinearHeads(StagedNetwork):
    """A staged network whose heads end in linear layers, which can be trained anew on features that stay.

    It defines `features` in place of `answer`, and each of its ``heads`` has a layer ``linear``.
    """

    @abstractmethod
    def features(self, k: int, state: State) -> Tensor:
        """Return what the linear layer of head k reads, one vector per image: (B, F_k)."""

    @property
    def readouts(self) -> list[nn.Linear]:
        """The linear layers of the K heads.

        Raises:
            UserError: if a head has none.
        """
        layers = [getattr(head, "linear", None) for head in self.heads]
        for k, layer in enumerate(layers):
            if not isinstance(layer, nn.Linear):
                raise UserError(
                    f"{type(self).__name__} derives from LinearHeads and has no nn.Linear heads[{k}].linear."
                )
        return cast(list[nn.Linear], layers)

    def answer(self, k: int, state: State) -> Tensor:
        """Return the logits (B, C) of exit k: the linear layer of head k on its features."""
        return cast(nn.Linear, self.heads[k].linear)(self.features(k, state))

    def after_features(self) -> list[nn.Module]:
        """Return the modules that turn the features into logits: what is trained when the backbone is frozen."""
        return [*self.readouts]


def with_linear_heads(network: StagedNetwork) -> LinearHeads:
    """Return the network as one with linear heads.

    Raises:
        UserError: if it is not one.
    """
    if not isinstance(network, LinearHeads):
        raise UserError(
            f"{type(network).__name__} does not derive from ranet.models.LinearHeads, which collaboration between "
            "exits and training in two stages need."
        )
    return network


def without_data(module: Module) -> Module:
    """Return a copy of a module on the meta device, made without copying its weights."""
    memo: dict[int, Any] = {id(p): nn.Parameter(p.to("meta"), requires_grad=False) for p in module.parameters()}
    memo.update({id(b): b.to("meta") for b in module.buffers()})
    return copy.deepcopy(module, memo)
