"""The cost of each exit of a staged network, counted."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ranet.cost.counting import Operations, count_apart
from ranet.cost.table import CostTable
from ranet.models.papers.msdnet import MSDNet
from ranet.models.staged import StagedNetwork, without_data
from ranet.models.staged_checks import check_attributes, checked_state
from ranet.support.files import write_text
from ranet.support.shapes import ImageSize, checked_image_size, image_shape

UNITS = ("macs", "paper_ops")
log = logging.getLogger(__name__)


class Counts(NamedTuple):
    """The costs of a network in both units."""

    macs: CostTable
    paper_ops: CostTable


class PerExit:
    """An attribute for the costs of each exit in a table of the profile, in whole operations."""

    def __init__(self, way: str, unit: str, *, alone: bool = False) -> None:
        self.way, self.unit, self.alone = way, unit, alone

    def __get__(self, profile: CostProfile, owner: type) -> list[int]:
        table: CostTable = getattr(getattr(profile, self.way), self.unit)
        return [round(cost) for cost in (table.stages[0] if self.alone else table.cumulative()).tolist()]


@dataclass(frozen=True, eq=False)
class CostProfile:
    """What a network costs for one image.

    MACs are multiply-adds of convolutions and linear layers; paper ops add what the papers' counter adds
    (`Operations`). Each ``per_exit`` is cumulative, earlier heads included; those ``alone`` are of an exit that alone
    is asked: without earlier heads, unless later exits build on them.

    Attributes:
        image_size: side of the square image in pixels, or its (height, width).
        parameters: number of trained numbers in the network.
        whole: the costs of the network as it is trained, where all layers run.
        lazy: the costs of the network as the engine runs it: an MSDNet computes at each exit only what this
            exit needs; for all other networks both ways cost the same.
        optional_parts: names of the parts that an image may go without; the tables have the cost of each.
        uncounted: names of operators that may multiply and add and that no formula counts: the costs lack them.
    """

    image_size: ImageSize
    parameters: int
    whole: Counts
    lazy: Counts
    optional_parts: tuple[str, ...] = ()
    uncounted: tuple[str, ...] = ()

    macs_per_exit = PerExit("whole", "macs")
    paper_ops_per_exit = PerExit("whole", "paper_ops")
    lazy_macs_per_exit = PerExit("lazy", "macs")
    lazy_paper_ops_per_exit = PerExit("lazy", "paper_ops")
    macs_per_exit_alone = PerExit("whole", "macs", alone=True)
    paper_ops_per_exit_alone = PerExit("whole", "paper_ops", alone=True)
    lazy_macs_per_exit_alone = PerExit("lazy", "macs", alone=True)

    @property
    def num_exits(self) -> int:
        """Number of exits K."""
        return self.whole.macs.num_exits

    def table(self, unit: str) -> CostTable:
        """Return the costs in a unit: "macs" that the engine executes, or "paper_ops" as the papers count."""
        assert unit in UNITS
        return self.lazy.macs if unit == "macs" else self.whole.paper_ops

    def to_dict(self) -> dict[str, Any]:
        """Return everything, cumulative costs included, as plain numbers and lists."""
        per_exit = [name for name in vars(CostProfile) if "_per_exit" in name]
        return {
            "image_size": self.image_size,
            "parameters": self.parameters,
            "optional_parts": list(self.optional_parts),
            "uncounted": list(self.uncounted),
            **{name: getattr(self, name) for name in per_exit},
            "tables": self.tables(),
        }

    def tables(self) -> dict[str, dict[str, Any]]:
        """Return the tables of both units as lists of integers, with 0 below the diagonal of the stages."""
        return {
            unit: {
                name: np.nan_to_num(getattr(self.table(unit), name)).round().astype(np.int64).tolist()
                for name in ("stages", "parts")
            }
            for unit in UNITS
        }

    def save(self, path: str | Path) -> None:
        """Write ``to_dict()`` as JSON."""
        write_text(path, json.dumps(self.to_dict(), indent=1) + "\n")


def measure_costs(network: StagedNetwork, image_size: ImageSize | None = None) -> CostProfile:
    """Count what each exit of a network costs for one image, by running it on tensors without memory.

    Optional parts run in this count; their costs are taken out of the stages. A warning names `CostProfile.uncounted`.

    Args:
        network: any staged network; it is not changed.
        image_size: side of the square image in pixels, or its (height, width); None: as the network was built for.

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
    model = without_data(network).eval()
    can_be_lazy = [module for module in model.modules() if isinstance(module, MSDNet)]
    for module in can_be_lazy:
        module.lazy = False
    lazy, uncounted = whole, _ = _counts(model, shape)
    for module in can_be_lazy:
        module.lazy = True
    if can_be_lazy:
        lazy, _ = _counts(model, shape)
    if uncounted:
        log.warning(
            "The counted costs of %s lack what these operators multiply and add, for which there is no formula: %s.",
            type(network).__name__,
            ", ".join(sorted(uncounted)),
        )
    return CostProfile(
        image_size=size,
        parameters=sum(p.numel() for p in network.parameters()),
        whole=whole,
        lazy=lazy,
        optional_parts=network.optional_parts,
        uncounted=tuple(sorted(uncounted)),
    )


def _counts(network: StagedNetwork, shape: Sequence[int]) -> tuple[Counts, frozenset[str]]:
    """Return the costs of a network, and the operators that were not counted."""
    images = torch.empty(1, *shape, device="meta")
    modules = {name: network.get_submodule(name) for name in network.optional_parts}
    parts: dict[str | None, Operations] = {}

    def count(run: Any) -> tuple[Operations, Any]:
        counted, result = count_apart(run, modules)
        outside = counted.pop(None)
        for name, inside in counted.items():
            parts[name] = parts.get(name, Operations()) + inside
        return outside, result

    before, state = count(lambda: network.stem(images))
    checked_state(network, "stem", state, 1)
    backbone: list[Operations] = []
    heads: list[Operations] = []
    for k in range(network.num_exits):
        counted, state = count(partial(network.advance, k, state))
        checked_state(network, "advance", state, 1)
        backbone.append(before + counted if k == 0 else counted)
        counted, logits = count(partial(network.answer, k, state))
        heads.append(counted)
        state = network.carry(k, state, logits)
    apart = [parts.get(name, Operations()) for name in network.optional_parts]
    tables = (_table(unit, network, backbone, heads, apart) for unit in UNITS)
    operations = [*backbone, *heads, *apart]
    return Counts(*tables), frozenset().union(*(each.uncounted for each in operations))


def _table(
    unit: str,
    network: StagedNetwork,
    backbone: Sequence[Operations],
    heads: Sequence[Operations],
    parts: Sequence[Operations],
) -> CostTable:
    """Return the table of a network; stages that run as one leave out the heads between them if they can."""
    stages, answers, apart = (np.array([getattr(each, unit) for each in of]) for of in (backbone, heads, parts))
    costs = np.zeros((len(stages), len(stages)))
    for first, last in combinations_with_replacement(range(len(stages)), 2):
        start = network.begins_at(first, last)
        asked = last if network.heads_can_be_skipped else start  # the first head that is run
        costs[first, last] = stages[start : last + 1].sum() + answers[asked : last + 1].sum()
    return CostTable(unit, costs, apart)
