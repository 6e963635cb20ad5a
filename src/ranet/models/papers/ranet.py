"""RANet: resolution adaptive networks (Yang et al., CVPR 2020, arXiv 2003.07326)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn

from ranet.errors import UserError, require_known
from ranet.models.papers.layers import (
    ConvNormReLU,
    DenseUnit,
    ExitHead,
    check_head_map,
    choose_style,
    concatenate,
    first_layer,
    initialise,
    resize_like,
)
from ranet.models.staged import LinearHeads, State
from ranet.support.shapes import ImageSize


@dataclass(frozen=True)
class BlockShape:
    """Where a block stands in its sub-network: block n of n_i, with these layers, and what happens at its end."""

    layers: int
    transition: bool
    strides: bool


def block_shapes(
    sub_network: int, counts: Sequence[int], scale_list: Sequence[int], mode: str, step: int
) -> list[BlockShape]:
    """Return the shapes of the blocks n = 1..n_i of sub-network i.

    Transitions divide the sub-network into ``scale`` equal parts: block n ends with one iff n = floor(j * n_i / scale)
    for some j in 1..scale - 1. Strides bring the map down to the lowest resolution: block n has one iff n is among
    the last scale - 1 entries of [0, n_0, n_1, ..., n_{i-1}].
    """
    count, scale = counts[sub_network], scale_list[sub_network]
    transitions = {j * count // scale for j in range(1, scale)}
    entries = [0, *counts][: sub_network + 1]
    strides = set(entries[max(0, len(entries) - (scale - 1)) :]) if scale > 1 else set()
    return [
        BlockShape(step if mode == "even" else n * step, n in transitions, n in strides) for n in range(1, count + 1)
    ]


@dataclass
class Handed:
    """What a block hands to the next sub-network: its dense states, as channel prefixes of one or two maps.

    Dense state l = 0..L has widths[l] channels. State L is the block's last dense map; where the last layer strides,
    the states before it have the larger size and are prefixes of the second map.
    """

    widths: Sequence[int]
    last: Tensor
    unstrided: Tensor | None = None

    def __getitem__(self, layer: int) -> Tensor:
        """Return the dense state of this layer, (B, widths[layer], H, W)."""
        if layer == len(self.widths) - 1:
            return self.last
        whole = self.last if self.unstrided is None else self.unstrided
        return whole[:, : self.widths[layer]]

    @property
    def maps(self) -> list[Tensor]:
        """The maps as they travel in a state."""
        return [self.last] if self.unstrided is None else [self.unstrided, self.last]


class PlainBlock(nn.Module):
    """A dense block, followed by a transition where its shape says so."""

    def __init__(
        self, in_channels: int, shape: BlockShape, growth: int, bottleneck_factor: int, reduction: float
    ) -> None:
        super().__init__()
        self.strides = False
        self.widths = [in_channels + layer * growth for layer in range(shape.layers + 1)]
        self.own = nn.ModuleList(DenseUnit(width, growth, bottleneck_factor) for width in self.widths[:-1])
        self.transition = _transition(self.widths[-1], reduction) if shape.transition else None

    @property
    def out_channels(self) -> int:
        """Channels of the map that the head and the next block read."""
        return self.widths[-1] if self.transition is None else self.transition.conv.out_channels

    def forward(self, x: Tensor) -> tuple[Tensor, Handed]:
        """Return the block's map and what it hands to the next sub-network."""
        for unit in self.own:
            x = concatenate(x, unit(x))
        handed = Handed(self.widths, x)
        return (x if self.transition is None else self.transition(x)), handed


class FusionBlock(nn.Module):
    """A dense block that also reads the dense states of the block with the same index in the sub-network before.

    Of the ``growth`` channels that each layer appends, floor(compress * growth) come from the lower resolution.
    """

    def __init__(
        self,
        in_channels: int,
        low_widths: Sequence[int],
        shape: BlockShape,
        growth: int,
        bottleneck_factor: int,
        low_bottleneck_factor: int,
        compress: float,
        reduction: float,
    ) -> None:
        super().__init__()
        self.strides = shape.strides
        self.widths = [in_channels + layer * growth for layer in range(shape.layers + 1)]
        fused = math.floor(compress * growth)
        appended = math.floor(compress * self.widths[-1])
        if min(fused, growth - fused, appended) < 1:
            raise UserError(
                f"A growth of {growth} with compress_factor={compress} leaves no channels for fusion: growth times the "
                "sub-network's growth factor times compress_factor must be at least 1, and less than the growth; "
                "use a larger growth."
            )
        self.low = nn.ModuleList(DenseUnit(low_widths[i], fused, low_bottleneck_factor) for i in range(shape.layers))
        self.own = nn.ModuleList(
            DenseUnit(
                self.widths[i],
                growth - fused,
                bottleneck_factor,
                stride=2 if shape.strides and i == shape.layers - 1 else 1,
            )
            for i in range(shape.layers)
        )
        self.append = ConvNormReLU(low_widths[-1], appended, kernel=1)
        self.transition = _transition(self.widths[-1] + appended, reduction) if shape.transition else None

    @property
    def out_channels(self) -> int:
        """Channels of the map that the next block reads."""
        if self.transition is None:
            return self.widths[-1] + self.append.conv.out_channels
        return self.transition.conv.out_channels

    def forward(self, x: Tensor, low: Handed) -> tuple[Tensor, Handed]:
        """Return the block's map and what it hands to the next sub-network."""
        before = x
        for layer, (low_unit, own_unit) in enumerate(zip(self.low, self.own, strict=True)):
            before = x
            own = own_unit(x)
            x = concatenate(resize_like(x, own), resize_like(low_unit(low[layer]), own), own)
        handed = Handed(self.widths, x, before if self.strides else None)
        x = concatenate(x, resize_like(self.append(low[len(self.low)]), x))
        return (x if self.transition is None else self.transition(x)), handed


def _transition(channels: int, reduction: float) -> ConvNormReLU:
    narrowed = math.floor(reduction * channels)
    if narrowed < 1:
        raise UserError(f"reduction={reduction} leaves no channels of {channels}; use a larger reduction.")
    return ConvNormReLU(channels, narrowed, kernel=1)


@dataclass(frozen=True)
class Stage:
    """What lies between two exits: blocks first..last (from 0) of one sub-network."""

    sub_network: int
    first: int
    last: int


class RANet(LinearHeads):
    """Resolution adaptive network: sub-networks from low to high resolution, each fed by the one before.

    Args:
        num_classes: number of classes.
        image_size: side of square images in pixels, or (height, width).
        in_channels: channels of the images.
        channels: width of the base features; sub-network i starts with channels * growth_factors[i] channels.
        growth: channels that a layer appends, times growth_factors[i].
        scale_list: resolution of each sub-network, lowest first: 1 is the lowest, each further value doubles it, an
            equal value repeats it.
        growth_factors: one factor per sub-network.
        bottleneck_factors: bottleneck widths per sub-network, in units of a unit's output.
        mode: layers of block n: "even", step in each; "lg", n * step.
        step: see mode.
        blocks: blocks of sub-network 0.
        block_step: how many blocks more each further sub-network has; each of them ends at an exit.
        compress_factor: share of a fusion layer's channels that comes from the lower resolution.
        reduction: what a transition keeps of the channels.
        stem: "cifar" or "imagenet"; by default that of the published networks for images of this size.
        head: likewise.

    Raises:
        UserError: if no network can be built from these options.
    """

    def __init__(
        self,
        num_classes: int = 10,
        image_size: ImageSize = 32,
        in_channels: int = 3,
        channels: int = 16,
        growth: int = 6,
        scale_list: Sequence[int] = (1, 2, 3),
        growth_factors: Sequence[int] = (4, 2, 1),
        bottleneck_factors: Sequence[int] = (4, 2, 1),
        mode: str = "lg",
        step: int = 2,
        blocks: int = 2,
        block_step: int = 2,
        compress_factor: float = 0.25,
        reduction: float = 0.5,
        stem: str | None = None,
        head: str | None = None,
    ) -> None:
        super().__init__(num_classes, image_size, in_channels)
        self.heads = nn.ModuleList()
        _check(scale_list, growth_factors, bottleneck_factors, mode, step, blocks, block_step, channels, growth)
        stem_style = choose_style("stem", stem, self.image_shape)
        head_style = choose_style("head", head, self.image_shape)
        count = len(scale_list)
        doublings = sum(scale_list[i] != scale_list[i - 1] for i in range(1, count))
        check_head_map(self.image_shape, stem_style, doublings)

        # From the highest resolution down, as the data flows.
        self.base = nn.ModuleList([first_layer(in_channels, channels * growth_factors[-1], stem_style)])
        for i in range(count - 2, -1, -1):
            stride = 1 if scale_list[i] == scale_list[i + 1] else 2
            higher, own = channels * growth_factors[i + 1], channels * growth_factors[i]
            self.base.append(ConvNormReLU(higher, own, kernel=3, stride=stride))

        counts = [blocks + block_step * i for i in range(count)]
        self.stages: list[Stage] = []
        self.sub_networks = nn.ModuleList()
        for i in range(count):
            sub_network = nn.ModuleList()
            width = channels * growth_factors[i]
            own_growth = growth * growth_factors[i]
            for n, shape in enumerate(block_shapes(i, counts, scale_list, mode, step)):
                block: PlainBlock | FusionBlock
                if i > 0 and n < counts[i - 1]:
                    low = cast("PlainBlock | FusionBlock", cast(nn.ModuleList, self.sub_networks[i - 1])[n])
                    block = FusionBlock(
                        width,
                        low.widths,
                        shape,
                        own_growth,
                        bottleneck_factors[i],
                        bottleneck_factors[i - 1],
                        compress_factor,
                        reduction,
                    )
                else:
                    block = PlainBlock(width, shape, own_growth, bottleneck_factors[i], reduction)
                    first_plain = i == 0 or n == counts[i - 1]
                    self.stages.append(Stage(i, 0 if first_plain and i > 0 else n, n))
                    self.heads.append(ExitHead(block.out_channels, num_classes, head_style))
                width = block.out_channels
                sub_network.append(block)
            self.sub_networks.append(sub_network)
        initialise(self)

    def stem(self, images: Tensor) -> State:
        """Return the base feature of every sub-network, lowest resolution first."""
        maps = [self.base[0](images)]
        for down in list(self.base)[1:]:
            maps.append(down(maps[-1]))
        return tuple(reversed(maps))

    def advance(self, k: int, state: State) -> State:
        """Run the blocks between exit k - 1 and exit k.

        The state holds the base features of the later sub-networks, what the finished blocks of this sub-network hand
        to the next one, and last the map that the head reads.
        """
        stage = self.stages[k]
        if stage.first > 0:  # inside a sub-network
            bases, handed, x = self._unpack(stage.sub_network, stage.first, state)
            low: list[Handed] = []
        elif k == 0:
            x, bases, low, handed = state[0], state[1:], [], []
        else:
            count = len(cast(nn.ModuleList, self.sub_networks[stage.sub_network - 1]))
            bases, low, _ = self._unpack(stage.sub_network - 1, count, state)
            x, bases, handed = bases[0], bases[1:], []
        for n in range(stage.first, stage.last + 1):
            block = self._block(stage.sub_network, n)
            x, given = block(x, low[n]) if isinstance(block, FusionBlock) else block(x)
            handed.append(given)
        if stage.sub_network == len(self.sub_networks) - 1:
            return (x,)
        maps = [m for given in handed for m in given.maps]
        return (*bases, *maps) if x is maps[-1] else (*bases, *maps, x)

    def features(self, k: int, state: State) -> Tensor:
        """Return the features of head k: (B, F_k)."""
        return cast(ExitHead, self.heads[k]).features(state[-1])

    def _block(self, sub_network: int, n: int) -> PlainBlock | FusionBlock:
        return cast("PlainBlock | FusionBlock", cast(nn.ModuleList, self.sub_networks[sub_network])[n])

    def _unpack(self, sub_network: int, finished: int, state: State) -> tuple[State, list[Handed], Tensor]:
        """Take a state apart: later sub-networks' base features, what finished blocks handed on, the head's map."""
        later = len(self.sub_networks) - 1 - sub_network
        maps = iter(state[later:])
        handed: list[Handed] = []
        if later:
            for n in range(finished):
                block = self._block(sub_network, n)
                unstrided = next(maps) if block.strides else None
                handed.append(Handed(block.widths, next(maps), unstrided))
        return state[:later], handed, state[-1]


def _check(
    scale_list: Sequence[int],
    growth_factors: Sequence[int],
    bottleneck_factors: Sequence[int],
    mode: str,
    step: int,
    blocks: int,
    block_step: int,
    channels: int,
    growth: int,
) -> None:
    require_known("mode", mode, ["even", "lg"])
    if not len(scale_list) == len(growth_factors) == len(bottleneck_factors) or not scale_list:
        raise UserError(
            f"scale_list={list(scale_list)}, growth_factors={list(growth_factors)} and "
            f"bottleneck_factors={list(bottleneck_factors)} need one entry for each sub-network."
        )
    if min(step, blocks, block_step, channels, growth, *scale_list, *growth_factors, *bottleneck_factors) < 1:
        raise UserError(
            "step, blocks, block_step, channels, growth, scale_list, growth_factors and bottleneck_factors must all be "
            "integers of at least 1."
        )
    rises = [scale_list[i] - scale_list[i - 1] for i in range(1, len(scale_list))]
    if scale_list[0] != 1 or any(rise not in (0, 1) for rise in rises):
        raise UserError(f"scale_list={list(scale_list)} must start at 1 and each value must repeat or add 1.")
