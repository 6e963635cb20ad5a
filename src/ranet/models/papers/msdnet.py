"""MSDNet: multi-scale dense networks (Huang et al., ICLR 2018, arXiv 1703.09844)."""

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
)
from ranet.models.staged import LinearHeads, State
from ranet.support.shapes import ImageSize

# Scale 0 is the finest. A map is named by (step, scale): step 0 is the stem, each layer or transition is one step.
Map = tuple[int, int]


@dataclass(frozen=True)
class LayerShape:
    """Where one dense layer stands: the finest scales that it reads and that it keeps, and what follows it."""

    finest_in: int
    finest_out: int
    transition: bool


def layers_per_block(blocks: int, mode: str, base: int, step: int) -> list[int]:
    """Return the number of dense layers of each block.

    "even": base, then step in every further block. "lin_grow": base, then step * i + 1 in block i = 1, 2, ...
    """
    if mode == "even":
        return [base] + [step] * (blocks - 1)
    return [base] + [step * i + 1 for i in range(1, blocks)]


def layer_shapes(layers: int, scales: int, prune: str) -> list[LayerShape]:
    """Return the scales that each layer l = 1..N reads and keeps, and where transitions follow.

    "max" (published) drops the finest scale after each of S equal parts of the network and follows the layer that drops
    it with a transition; "min" drops scales only where the remaining layers could not carry them to the coarsest scale,
    with transitions after a third and two thirds of the layers.
    """
    shapes = []
    for layer in range(1, layers + 1):
        if prune == "max":
            interval = math.ceil(layers / scales)
            finest_in = max(0, layer - 2) // interval
            finest_out = (layer - 1) // interval
            transition = finest_out > finest_in
        else:
            finest_in = scales - min(scales, layers - layer + 2)
            finest_out = scales - min(scales, layers - layer + 1)
            transition = layer in (layers // 3, 2 * layers // 3)
        shapes.append(LayerShape(finest_in, finest_out, transition))
    return shapes


class MSDLayer(nn.Module):
    """One dense layer over all kept scales.

    At scale s it appends growth * growth_factors[s] channels: half of them from the next finer scale, strided, where
    the layer reads that scale, and all of them from scale s itself where it does not.
    """

    def __init__(
        self,
        width: int,
        shape: LayerShape,
        growth: int,
        growth_factors: Sequence[int],
        bottleneck_factors: Sequence[int],
    ) -> None:
        super().__init__()
        self.own = nn.ModuleDict()
        self.finer = nn.ModuleDict()
        for scale in range(shape.finest_out, len(growth_factors)):
            new = growth * growth_factors[scale]
            if scale > shape.finest_in:
                new //= 2
                finer = scale - 1
                self.finer[str(scale)] = DenseUnit(
                    width * growth_factors[finer], new, bottleneck_factors[finer], stride=2
                )
            self.own[str(scale)] = DenseUnit(width * growth_factors[scale], new, bottleneck_factors[scale])

    @property
    def scales(self) -> list[int]:
        """The scales that the layer keeps."""
        return [int(scale) for scale in self.own]

    def reads(self, scale: int) -> list[int]:
        """Return the scales whose maps are needed to compute this scale."""
        return [scale - 1, scale] if str(scale) in self.finer else [scale]

    def forward(self, scale: int, maps: dict[int, Tensor]) -> Tensor:
        """Return the new map of one scale, from the maps of the step before."""
        x = maps[scale]
        if str(scale) in self.finer:
            return concatenate(x, self.finer[str(scale)](maps[scale - 1]), self.own[str(scale)](x))
        return concatenate(x, self.own[str(scale)](x))


class Transition(nn.Module):
    """A 1x1 convolution at every kept scale that narrows the maps."""

    def __init__(self, in_width: int, out_width: int, scales: Sequence[int], growth_factors: Sequence[int]) -> None:
        super().__init__()
        self.own = nn.ModuleDict(
            {str(s): ConvNormReLU(in_width * growth_factors[s], out_width * growth_factors[s], 1) for s in scales}
        )

    @property
    def scales(self) -> list[int]:
        """The scales that the transition works on."""
        return [int(scale) for scale in self.own]

    def reads(self, scale: int) -> list[int]:
        """Return the scales whose maps are needed to compute this scale."""
        return [scale]

    def forward(self, scale: int, maps: dict[int, Tensor]) -> Tensor:
        """Return the narrowed map of one scale."""
        return self.own[str(scale)](maps[scale])


class MSDNet(LinearHeads):
    """Multi-scale dense network: every layer keeps maps of several resolutions, every head reads the coarsest.

    Args:
        num_classes: number of classes.
        image_size: side of square images in pixels, or (height, width).
        in_channels: channels of the images.
        blocks: number of blocks, with one exit after each.
        mode: layers per block, "even" or "lin_grow" (``layers_per_block``).
        base: layers in the first block.
        step: layers in a further block ("even"), or their increase from block to block ("lin_grow").
        channels: width of the stem; the map at scale s has channels * growth_factors[s] channels there.
        growth: channels that a layer appends, times growth_factors[s].
        growth_factors: one factor per scale, finest first; their number is the number of scales.
        bottleneck_factors: bottleneck widths per scale, in units of a unit's output.
        reduction: what a transition keeps of the width.
        prune: how finer scales are dropped along the network, "max" (published) or "min" (``layer_shapes``).
        lazy: at exit k compute only what that exit needs, and the rest of the finer scales when the image goes on. The
            logits are the same; an image that leaves early costs less. May be switched at any time.
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
        blocks: int = 5,
        mode: str = "lin_grow",
        base: int = 1,
        step: int = 1,
        channels: int = 16,
        growth: int = 6,
        growth_factors: Sequence[int] = (1, 2, 4),
        bottleneck_factors: Sequence[int] = (1, 2, 4),
        reduction: float = 0.5,
        prune: str = "max",
        lazy: bool = False,
        stem: str | None = None,
        head: str | None = None,
    ) -> None:
        super().__init__(num_classes, image_size, in_channels)
        self.heads = nn.ModuleList()
        scales = len(growth_factors)
        per_block = _checked_layers(blocks, mode, base, step, scales, prune)
        _check_widths(growth, growth_factors, bottleneck_factors)
        stem_style = choose_style("stem", stem, self.image_shape)
        head_style = choose_style("head", head, self.image_shape)
        check_head_map(self.image_shape, stem_style, halvings=scales - 1)

        self.lazy = lazy
        self.base = nn.ModuleList([first_layer(in_channels, channels * growth_factors[0], stem_style)])
        for scale in range(1, scales):
            finer, own = channels * growth_factors[scale - 1], channels * growth_factors[scale]
            self.base.append(ConvNormReLU(finer, own, kernel=3, stride=2))

        shapes = iter(layer_shapes(sum(per_block), scales, prune))
        width = channels
        self.blocks = nn.ModuleList()
        for layers in per_block:
            block = nn.ModuleList()
            for _ in range(layers):
                shape = next(shapes)
                block.append(MSDLayer(width, shape, growth, growth_factors, bottleneck_factors))
                width += growth
                if shape.transition:
                    kept = range(shape.finest_out, scales)
                    narrowed = math.floor(reduction * width)
                    if narrowed < 1:
                        raise UserError(f"reduction={reduction} leaves no channels of {width}; use a larger reduction.")
                    block.append(Transition(width, narrowed, kept, growth_factors))
                    width = narrowed
            self.blocks.append(block)
            self.heads.append(ExitHead(width * growth_factors[-1], num_classes, head_style))
        self._steps = [cast("MSDLayer | Transition", m) for block in self.blocks for m in cast(nn.ModuleList, block)]
        self._plans = {False: self._plan(lazy=False), True: self._plan(lazy=True)}
        self._layouts = {lazy: self._layout(plan) for lazy, plan in self._plans.items()}
        initialise(self)

    def stem(self, images: Tensor) -> State:
        """Return the stem's map of every scale, finest first."""
        maps = [self.base[0](images)]
        for down in list(self.base)[1:]:
            maps.append(down(maps[-1]))
        return tuple(maps)

    def advance(self, k: int, state: State) -> State:
        """Run block k; the state holds one map per scale that is still needed, finest first."""
        layouts = self._layouts[self.lazy]
        maps = dict(zip(layouts[k], state, strict=True))
        for step, scale in self._plans[self.lazy][k]:
            maps[scale] = self._step(step)(scale, maps)
        return tuple(maps[scale] for scale in layouts[k + 1])

    def features(self, k: int, state: State) -> Tensor:
        """Return the features of head k, read off the coarsest scale: (B, F_k)."""
        return cast(ExitHead, self.heads[k]).features(state[-1])

    def _step(self, step: int) -> MSDLayer | Transition:
        """Return step 1, 2, ... of the network, counted through all blocks."""
        return self._steps[step - 1]

    def _plan(self, lazy: bool) -> list[list[Map]]:
        """Return for each block the maps to compute, in an order that reads each map before it is overwritten.

        A map (step, scale) is made of maps of step - 1 at the same and the next finer scale. So going through the steps
        in order, and within a step from the coarsest scale to the finest, one map per scale is all there is to keep.
        """
        coarsest = len(self.base) - 1
        plan: list[list[Map]] = []
        done: set[Map] = set()
        last = 0
        for block in self.blocks:
            first, last = last + 1, last + len(cast(nn.ModuleList, block))
            if lazy:
                wanted: set[Map] = set()
                open_maps = [(last, coarsest)]
                while open_maps:
                    step, scale = open_maps.pop()
                    if step > 0 and (step, scale) not in done | wanted:
                        wanted.add((step, scale))
                        open_maps += [(step - 1, source) for source in self._step(step).reads(scale)]
            else:
                wanted = {(step, scale) for step in range(first, last + 1) for scale in self._step(step).scales}
            done |= wanted
            plan.append(sorted(wanted, key=lambda m: (m[0], -m[1])))
        return plan

    def _layout(self, plan: list[list[Map]]) -> list[list[int]]:
        """Return the scales in the state at each cut: before block 0, after block 0, ...; always with the head's."""
        layouts = [list(range(len(self.base)))]
        for k in range(len(plan)):
            later = [m for maps in plan[k + 1 :] for m in maps]
            read = {source for step, scale in later for source in self._step(step).reads(scale)}
            layouts.append(sorted(read | {len(self.base) - 1}))
        return layouts


def _checked_layers(blocks: int, mode: str, base: int, step: int, scales: int, prune: str) -> list[int]:
    require_known("mode", mode, ["even", "lin_grow"])
    require_known("prune", prune, ["max", "min"])
    if min(blocks, base, step) < 1:
        raise UserError(f"blocks={blocks}, base={base} and step={step} must all be at least 1.")
    per_block = layers_per_block(blocks, mode, base, step)
    if sum(per_block) < scales:
        raise UserError(
            f"{sum(per_block)} layers cannot work on {scales} scales; use more blocks or layers, or fewer "
            "growth_factors."
        )
    return per_block


def _check_widths(growth: int, growth_factors: Sequence[int], bottleneck_factors: Sequence[int]) -> None:
    if len(growth_factors) != len(bottleneck_factors) or not growth_factors:
        raise UserError(
            f"growth_factors={list(growth_factors)} and bottleneck_factors={list(bottleneck_factors)} need one factor "
            "for each scale."
        )
    if min(*growth_factors, *bottleneck_factors, growth) < 1:
        raise UserError("growth, growth_factors and bottleneck_factors must be integers of at least 1.")
    odd = [growth * factor for factor in growth_factors[1:] if growth * factor % 2]
    if odd:
        raise UserError(
            f"A layer would append {odd[0]} channels at a coarser scale, half of them from each of two sources; "
            "use an even growth or even growth_factors."
        )
