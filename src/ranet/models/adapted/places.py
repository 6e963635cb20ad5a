"""Where a traced classifier is cut: at places that are named, or at places that part its cost evenly."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, fx, nn

from ranet.errors import UserError, unknown_name
from ranet.models.adapted.cutting import alive
from ranet.models.adapted.tracing import Traced


@dataclass(frozen=True)
class Place:
    """A place for an exit.

    Attributes:
        name: path of a module, or name of a node of the graph.
        node: what the exit reads.
        at: index of the last node that has run there.
    """

    name: str
    node: fx.Node
    at: int


def named_places(traced: Traced, backbone: nn.Module, names: Sequence[str]) -> list[Place]:
    """Return the places of these names, in the order in which they are reached.

    Raises:
        UserError: if there is no such place, no exit can read what is there, or two names mean the same place.
    """
    if not names:
        raise UserError(f'at=[] names no place for an exit; name some modules of {traced.name}, or use at="auto".')
    places = sorted((_named(traced, backbone, name) for name in names), key=lambda place: place.at)
    for place, following in pairwise(places):
        if place.at == following.at:
            raise UserError(f"{place.name} and {following.name} end at the same place of {traced.name}; name one.")
    return places


def _named(traced: Traced, backbone: nn.Module, name: str) -> Place:
    cannot = f"{traced.name} cannot be cut at {name}, because"
    calls = traced.calls.get(name, [])
    nodes = {node.name: node for node in traced.nodes if node.op != "get_attr"}
    if len(calls) > 1:
        raise UserError(f"{cannot} it runs {len(calls)} times for the same images; name a place that is passed once.")
    if calls:
        if not isinstance(calls[0].returned, fx.Proxy):
            kind = type(calls[0].returned).__name__
            raise UserError(f"{cannot} it returns a {kind}, and an exit reads one tensor; name a place with one.")
        node, at = calls[0].returned.node, calls[0].end
    elif name in nodes:
        node, at = nodes[name], traced.index[nodes[name]]
    elif name in dict(backbone.named_modules()):
        raise UserError(f"{cannot} {_why_not_seen(traced, backbone, name)}.")
    else:
        raise unknown_name(f"place in {traced.name}", name, {*traced.calls, *nodes})
    if at >= traced.index[traced.answer]:
        raise UserError(f"{cannot} it is the end of the network, which is the last exit in any case.")
    value = traced.values[0][node]
    if node not in traced.of_images or not isinstance(value, Tensor) or value.ndim not in (2, 3, 4):
        found = f"a tensor {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
        raise UserError(
            f"{cannot} {found} is there, and an exit reads maps (images, channels, height, width), tokens (images, "
            "number, channels) or vectors (images, channels)."
        )
    return Place(name, node, at)


def _why_not_seen(traced: Traced, backbone: nn.Module, name: str) -> str:
    """Return why the trace does not know a module of the network."""
    parts = name.split(".")
    for i in range(1, len(parts)):
        around = ".".join(parts[:i])
        if around in traced.calls and not any(path.startswith(f"{around}.") for path in traced.calls):
            reason = traced.whole.get(type(backbone.get_submodule(around)))
            return f"it is inside {around}, which runs as one" + (f" ({reason})" if reason else "")
    return "it does not run when images are classified"


def even_places(traced: Traced, backbone: nn.Module, number: int) -> list[Place]:
    """Return the places that part the multiply-adds as evenly as possible, in order.

    Candidates are the places where one map is all that is alive: the ends of stages, where timm names them, or else the
    ends of modules at the top two levels. As long as a place is more than a quarter of a step from where it should be,
    modules one level deeper are candidates, too.

    Raises:
        UserError: if there are too few, so that one would be more than a step from where it should be.
    """
    step = traced.macs[traced.index[traced.answer]] / (number + 1)
    targets = [step * (i + 1) for i in range(number)]
    best: list[Place] = []
    miss = math.inf
    for paths in _levels(traced, backbone):
        candidates = _candidates(traced, paths)
        if len(candidates) < number:
            continue
        best = _nearest(candidates, [traced.macs[place.at] for place in candidates], targets)
        miss = max(abs(traced.macs[place.at] - target) for place, target in zip(best, targets, strict=True))
        if miss <= step / 4:
            break
    if miss > step:
        raise UserError(
            f"{traced.name} has too few places along its cost where one map is all that is alive, for {number} added "
            "exits; use a smaller num_exits, or name places: at=[...]."
        )
    return best


def _levels(traced: Traced, backbone: nn.Module) -> Iterator[list[str]]:
    """Yield paths of modules: the ends of stages where they are known, then all modules, from level to level deeper."""
    stages = getattr(backbone, "feature_info", None)  # of timm
    if stages:
        yield [stage["module"] for stage in getattr(stages, "info", stages)]
    for level in range(1, 1 + max((path.count(".") for path in traced.calls), default=0)):
        yield [path for path in traced.calls if path.count(".") <= level]


def _candidates(traced: Traced, paths: Sequence[str]) -> list[Place]:
    """Return the places at the ends of modules where one map is all that is alive, each with another cost, in order."""
    found: dict[float, Place] = {}
    last = traced.index[traced.answer]
    for path in sorted(paths, key=lambda path: -path.count(".")):  # the shorter of two names of a place comes later
        calls = traced.calls.get(path, [])
        if len(calls) != 1 or not isinstance(calls[0].returned, fx.Proxy) or calls[0].end >= last:
            continue
        place = Place(path, calls[0].returned.node, calls[0].end)
        value, macs = traced.values[0][place.node], traced.macs[place.at]
        if not isinstance(value, Tensor) or value.ndim not in (3, 4) or macs == 0:
            continue
        try:
            crossing = alive(traced, place.at, path, traced.answer)
        except UserError:
            continue
        if crossing == [place.node] and (macs not in found or found[macs].at <= place.at):
            found[macs] = place  # behind the norm and activation of a convolution, which cost nothing
    return sorted(found.values(), key=lambda place: place.at)


def _nearest(candidates: Sequence[Place], costs: Sequence[float], targets: Sequence[float]) -> list[Place]:
    """Return the candidate for each target, in order, with the smallest sum of squared distances."""
    best: list[tuple[float, tuple[int, ...]]] = [((cost - targets[0]) ** 2, (i,)) for i, cost in enumerate(costs)]
    for target in targets[1:]:
        before = [min(best[:i], default=(math.inf, ())) for i in range(len(costs))]
        best = [(far + (costs[i] - target) ** 2, (*chosen, i)) for i, (far, chosen) in enumerate(before)]
    return [candidates[i] for i in min(best)[1]]
