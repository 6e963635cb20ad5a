"""The frontier of cascades beside the networks alone, on images that they were not chosen on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ranet.calibration.policies.intervals import Interval, accuracy_difference, accuracy_interval
from ranet.calibration.solvers.cascades import CascadeSearch, Choice, Members

POINTS = 24


@dataclass(frozen=True, eq=False)
class FrontierPoint:
    """What choosing a cascade for a budget comes to.

    Attributes:
        choice: the cascade chosen on all images.
        cost: mean cost on images that a choice was not made on.
        accuracy: top-1 accuracy on these images, a fraction.
        interval: of this accuracy (95 %).
    """

    choice: Choice
    cost: float
    accuracy: float
    interval: Interval


@dataclass(frozen=True)
class Alone:
    """A network alone, and the cheapest cascade that is as good.

    Attributes:
        name: of the network.
        cost: of an image.
        accuracy: top-1 accuracy, a fraction.
        interval: of this accuracy (95 %).
        equal: the cheapest point of the frontier that is at least as accurate; None if there is none.
        gain: accuracy of the best cascade within its cost minus its own, on images that were not chosen on.
        gain_interval: of this gain (95 %), paired by image.
    """

    name: str
    cost: float
    accuracy: float
    interval: Interval
    equal: FrontierPoint | None
    gain: float
    gain_interval: Interval


@dataclass(frozen=True, eq=False)
class CascadeReport:
    """The frontier of the cascades of some networks.

    Attributes:
        names: of the candidates.
        unit: of the costs.
        images: number of images.
        frontier: points of rising cost.
        alone: each candidate alone, cheapest first.
    """

    names: Sequence[str]
    unit: str
    images: int
    frontier: Sequence[FrontierPoint]
    alone: Sequence[Alone]

    def named(self, members: Members) -> str:
        """Return the members by their names, such as "small, large (mean)"."""
        names = ", ".join(self.names[i] for i in members.which)
        return f"{names} ({members.combine})" if len(members.which) > 1 else names

    @property
    def sentences(self) -> list[str]:
        """What the tables do not say: which network is beaten by which cascade, and which is best alone."""
        said = []
        for one in self.alone:
            at = f"{one.name} ({100 * one.accuracy:.2f} %)"
            low, high = (100 * end for end in one.gain_interval)
            if one.equal is not None and one.equal.cost < one.cost and len(one.equal.choice.members.which) > 1:
                said.append(
                    f"As accurate as {at} is {self.named(one.equal.choice.members)} at {one.equal.cost / one.cost:.2f} "
                    f"of its cost ({100 * one.equal.accuracy:.2f} %)."
                )
            elif one.cost > self.alone[0].cost and one.gain <= 0:
                said.append(f"{at} alone is better than every cascade that costs no more.")
            if one.gain > 0:
                chance = ", no more than chance" if low <= 0 else ""
                said.append(
                    f"At the cost of {one.name}, a cascade gains {100 * one.gain:.2f} points (95 % interval {low:+.2f} "
                    f"to {high:+.2f}{chance})."
                )
        return said


def cascade_report(search: CascadeSearch, names: Sequence[str]) -> CascadeReport:
    """Return the frontier of a search, with each candidate alone beside it."""
    alone = sorted((search.alone(i) for i in range(len(names))), key=lambda choice: choice.cost)
    budgets = np.linspace(search.frontier[0].cost, search.frontier[-1].cost, POINTS).tolist()
    budgets = sorted({*budgets, *(choice.cost for choice in alone)})
    held = search.held_out(budgets)
    images, points = search.candidates[0].num_images, {}
    for budget, result in zip(budgets, held, strict=True):
        choice = search.within(budget)
        if choice is None or result is None:
            continue
        cost, right = result
        interval = accuracy_interval(int(right.sum()), images)
        points[budget] = FrontierPoint(choice, cost, float(right.mean()), interval), right
    frontier = [point for point, _ in points.values()]
    found = []
    for one in alone:
        i = one.members.which[0]
        own = search.candidates[i].correct[-1]
        gain, gain_interval = accuracy_difference(points[one.cost][1], own)
        equal = [point for point in frontier if point.accuracy >= one.accuracy]
        found.append(
            Alone(
                names[i],
                one.cost,
                one.accuracy,
                accuracy_interval(int(own.sum()), images),
                min(equal, key=lambda point: point.cost, default=None),
                gain,
                gain_interval,
            )
        )
    return CascadeReport(names, search.tables[0].unit, images, frontier, found)
