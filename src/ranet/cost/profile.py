"""The cost of each exit of a staged network."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ranet.cost.counting import Operations, count_operations
from ranet.models.collaboration import InlineCollaboration
from ranet.models.papers.msdnet import MSDNet
from ranet.models.staged import StagedNetwork
from ranet.models.staged_checks import check_attributes, checked_state
from ranet.support.files import written_whole
from ranet.support.shapes import ImageSize, checked_image_size, image_shape


@dataclass(frozen=True)
class StageCosts:
    """Operations of the parts of a staged network for one image: each stage of the backbone, and each head.

    Attributes:
        backbone: K counts; the first includes the stem.
        heads: K counts.
    """

    backbone: tuple[int, ...]
    heads: tuple[int, ...]

    def cumulative(self) -> list[int]:
        """Cost of reaching each exit when every earlier head runs, too."""
        return list(accumulate(b + h for b, h in zip(self.backbone, self.heads, strict=True)))

    def cumulative_without_earlier_heads(self) -> list[int]:
        """Cost of each exit when it is the only one asked."""
        return [b + h for b, h in zip(accumulate(self.backbone), self.heads, strict=True)]


@dataclass(frozen=True)
class CostProfile:
    """What each exit of a network costs for one image.

    MACs are multiply-adds of convolutions and linear layers; paper ops add what the papers' counter adds
    (``Operations``). "Cumulative" means all of the backbone up to the exit and all heads up to it. Lazy costs are
    those of a network that computes at each exit only what this exit needs (MSDNet's ``lazy``); for others they are the
    same.

    Attributes:
        image_size: side of the square image in pixels, or its (height, width).
        parameters: number of trained numbers in the network.
        heads_can_be_skipped: whether an exit can be asked without running the heads before it.
        macs, paper_ops, lazy_macs, lazy_paper_ops: the counts of each stage and head.
    """

    image_size: ImageSize
    parameters: int
    heads_can_be_skipped: bool
    macs: StageCosts
    paper_ops: StageCosts
    lazy_macs: StageCosts
    lazy_paper_ops: StageCosts

    @property
    def num_exits(self) -> int:
        """Number of exits K."""
        return len(self.macs.heads)

    @property
    def macs_per_exit(self) -> list[int]:
        """Cumulative MACs of each exit, earlier heads included."""
        return self.macs.cumulative()

    @property
    def paper_ops_per_exit(self) -> list[int]:
        """Cumulative paper ops of each exit, earlier heads included."""
        return self.paper_ops.cumulative()

    @property
    def lazy_macs_per_exit(self) -> list[int]:
        """Cumulative MACs of each exit under lazy evaluation, earlier heads included."""
        return self.lazy_macs.cumulative()

    @property
    def lazy_paper_ops_per_exit(self) -> list[int]:
        """Cumulative paper ops of each exit under lazy evaluation, earlier heads included."""
        return self.lazy_paper_ops.cumulative()

    @property
    def macs_per_exit_alone(self) -> list[int]:
        """MACs of each exit when no earlier head runs; ``macs_per_exit`` where heads build on each other."""
        return self._alone(self.macs)

    @property
    def paper_ops_per_exit_alone(self) -> list[int]:
        """Paper ops of each exit when no earlier head runs; see ``macs_per_exit_alone``."""
        return self._alone(self.paper_ops)

    @property
    def lazy_macs_per_exit_alone(self) -> list[int]:
        """MACs of each exit under lazy evaluation when no earlier head runs; see ``macs_per_exit_alone``."""
        return self._alone(self.lazy_macs)

    def per_exit(self, unit: str, lazy: bool = False) -> list[int]:
        """Cumulative cost of each exit in a unit, "macs" or "paper_ops"."""
        if unit == "macs":
            return self.lazy_macs_per_exit if lazy else self.macs_per_exit
        assert unit == "paper_ops"
        return self.lazy_paper_ops_per_exit if lazy else self.paper_ops_per_exit

    def to_dict(self) -> dict[str, Any]:
        """Everything, cumulative figures included, as plain numbers and lists."""
        derived = (
            "macs_per_exit",
            "paper_ops_per_exit",
            "lazy_macs_per_exit",
            "lazy_paper_ops_per_exit",
            "macs_per_exit_alone",
            "paper_ops_per_exit_alone",
            "lazy_macs_per_exit_alone",
        )
        return {**asdict(self), **{name: getattr(self, name) for name in derived}}

    def save(self, path: str | Path) -> None:
        """Write ``to_dict()`` as JSON."""
        with written_whole(path) as partial:
            partial.write_text(json.dumps(self.to_dict(), indent=1) + "\n")

    def _alone(self, costs: StageCosts) -> list[int]:
        return costs.cumulative_without_earlier_heads() if self.heads_can_be_skipped else costs.cumulative()


def measure_costs(network: StagedNetwork, image_size: ImageSize | None = None) -> CostProfile:
    """Count what each exit of a network costs for one image, by running it on tensors without memory.

    Args:
        network: any staged network; it is not changed.
        image_size: side of the square image in pixels, or its (height, width); None: as the
            network was built for.

    Raises:
        UserError: if the network breaks the contract of `StagedNetwork`, or cannot run on images of that size.

    Example:
        >>> from ranet.models import create_network
        >>> measure_costs(create_network("msdnet_cifar_budgeted_5")).macs_per_exit
        [6781184, 14185984, 27244288, 41327616, 58030336]
    """
    check_attributes(network)
    size = checked_image_size(network.image_size if image_size is None else image_size)
    shape = image_shape(size, network.image_shape[0])
    model = _without_data(network).eval()
    inner = model.network if isinstance(model, InlineCollaboration) else model
    if isinstance(inner, MSDNet):
        inner.lazy = True
        lazy_macs, lazy_paper_ops = _stage_costs(model, shape)
        inner.lazy = False
        macs, paper_ops = _stage_costs(model, shape)
    else:
        lazy_macs, lazy_paper_ops = macs, paper_ops = _stage_costs(model, shape)
    return CostProfile(
        image_size=size,
        parameters=sum(p.numel() for p in network.parameters()),
        heads_can_be_skipped=network.heads_can_be_skipped,
        macs=macs,
        paper_ops=paper_ops,
        lazy_macs=lazy_macs,
        lazy_paper_ops=lazy_paper_ops,
    )


def _without_data(network: StagedNetwork) -> StagedNetwork:
    """A copy of the network on the meta device, made without copying its weights."""
    memo: dict[int, Any] = {id(p): nn.Parameter(p.to("meta"), requires_grad=False) for p in network.parameters()}
    memo.update({id(b): b.to("meta") for b in network.buffers()})
    return copy.deepcopy(network, memo)


def _stage_costs(network: StagedNetwork, shape: Sequence[int]) -> tuple[StageCosts, StageCosts]:
    """MACs and paper ops of each stage and head."""
    images = torch.empty(1, *shape, device="meta")
    stem, state = count_operations(lambda: network.stem(images))
    checked_state(network, "stem", state, 1)
    backbone: list[Operations] = []
    heads: list[Operations] = []
    for k in range(network.num_exits):
        counted, state = count_operations(partial(network.advance, k, state))
        checked_state(network, "advance", state, 1)
        backbone.append(counted)
        counted, logits = count_operations(partial(network.answer, k, state))
        heads.append(counted)
        state = network.carry(k, state, logits)
    backbone[0] = Operations(stem.macs + backbone[0].macs, stem.paper_ops + backbone[0].paper_ops)
    return _by_name("macs", backbone, heads), _by_name("paper_ops", backbone, heads)


def _by_name(name: str, backbone: Sequence[Operations], heads: Sequence[Operations]) -> StageCosts:
    return StageCosts(tuple(getattr(ops, name) for ops in backbone), tuple(getattr(ops, name) for ops in heads))
