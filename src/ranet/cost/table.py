"""The one type for costs: a table of what stages, exits and optional parts of a network cost, in any unit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from ranet.errors import UserError

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class CostTable:
    """What a network costs for one image: counted, measured or given, in operations, milliseconds or any other unit.

    Stages without a used exit between them run as one fused stage, and the heads between them are not computed where
    they can be skipped. So the cost of an image that leaves at an exit depends on which exits before it are used.

    Attributes:
        unit: of all numbers in the table, such as "macs", "paper_ops" or "ms".
        stages: (K, K) at least 0; ``stages[a, b]`` is the cost of stages a..b as one fused stage that is answered at
            exit b (from 0). Below the diagonal it is NaN, whatever was given.
        parts: (P,) at least 0; what each optional part of the network (`ranet.StagedNetwork.optional_parts`) adds where
            it is executed.

    Raises:
        UserError: if the shapes or numbers are others.

    Example:
        >>> costs = CostTable("ms", [[2, 3], [0, 2.5]])
        >>> costs.cumulative(), costs.cumulative([1]), costs.alone
        (array([2. , 4.5]), array([2., 3.]), array([2., 3.]))
    """

    unit: str
    stages: Floats
    parts: Floats = field(default_factory=lambda: np.empty(0))

    def __post_init__(self) -> None:
        given = _numbers("stages", self.stages)
        if given.ndim != 2 or given.shape[0] != given.shape[1] or not given.size:
            raise UserError(
                "The costs of fused stages must be a square table, the first stage down and the last across; this one "
                f"has shape {given.shape}."
            )
        for first, last in zip(*np.triu_indices(len(given)), strict=True):
            if not 0 <= given[first, last] < np.inf:
                raise UserError(
                    f"Every fused stage must have a finite cost of at least 0; stages {first + 1} to {last + 1} have "
                    f"{given[first, last]}."
                )
        parts = _numbers("optional parts", self.parts)
        if parts.ndim != 1 or not ((parts >= 0) & (parts < np.inf)).all():
            raise UserError(f"The costs of optional parts must be finite and at least 0, one for each, not {parts}.")
        stages = np.full_like(given, np.nan)
        stages[np.triu_indices(len(given))] = given[np.triu_indices(len(given))]
        object.__setattr__(self, "stages", stages)
        object.__setattr__(self, "parts", parts)

    @classmethod
    def of_exits(cls, cost_per_exit: npt.ArrayLike, unit: str = "") -> CostTable:
        """Return the table of a network whose exits have these cumulative costs, whichever of them are used.

        Example:
            >>> CostTable.of_exits([1, 3, 4]).stages
            array([[ 1.,  3.,  4.],
                   [nan,  2.,  3.],
                   [nan, nan,  1.]])
        """
        costs = checked_costs(cost_per_exit, np.size(cost_per_exit))
        before = [0.0, *costs[:-1].tolist()]
        return cls(unit, np.array([[_increase(start, to) for to in costs] for start in before]))

    @property
    def num_exits(self) -> int:
        """K, the number of exits."""
        return len(self.stages)

    @property
    def alone(self) -> Floats:
        """(K,) the cost of each exit if all images leave at it, in one fused stage, as under a deadline; increasing.

        It is the first row of the table, cautiously: where an earlier exit was measured as no cheaper, its cost stands
        for the later one, too.
        """
        costs = self.stages[0].copy()
        for k in range(1, len(costs)):
            costs[k] = max(costs[k], np.nextafter(costs[k - 1], np.inf))
        return costs

    @cached_property
    def cheapest(self) -> Floats:
        """(K, K) the table without the noise of measurements by which a cut would save: ``cheapest[a, b]``.

        Where the stages a..b were measured as more expensive in one than the same stages with cuts and heads between
        them, the sum of these stands for them. So to use fewer exits never costs more.
        """
        table = self.stages.copy()
        for length in range(1, self.num_exits):
            for first in range(self.num_exits - length):
                last = first + length
                for cut in range(first, last):
                    table[first, last] = min(table[first, last], table[first, cut] + table[cut + 1, last])
        return table

    def cumulative(self, used: Sequence[int] | None = None) -> Floats:
        """Return (K,) the cumulative cost of each exit where these exits are used, increasing; without optional parts.

        For used exits e_1 < e_2 < ... it is sum_{i <= j} cheapest[e_{i-1} + 1, e_i], with e_0 = -1. For another exit it
        is the cost of an image that is answered there, behind the used exit before it, and less than the next exit's
        cost, if need be by the last digit.

        Args:
            used: exits from 0, ascending; the last exit is one of them. None: all exits.

        Example:
            >>> CostTable("ms", [[2, 3, 4.5], [0, 2.5, 3], [0, 0, 1]]).cumulative([0, 2])
            array([2. , 4.5, 5. ])
        """
        exits = list(range(self.num_exits) if used is None else used)
        if not exits or exits != sorted({*exits}) or exits[0] < 0 or exits[-1] != self.num_exits - 1:
            raise UserError(
                f"Used exits must ascend from at least 0 to the last exit, {self.num_exits - 1}; these are {exits}."
            )
        costs = np.empty(self.num_exits)
        first, reached = 0, 0.0
        for last in exits:
            costs[first : last + 1] = reached + self.cheapest[first, first : last + 1]
            first, reached = last + 1, costs[last]
        # A head can cost more than the stages up to the next exit without it.
        for k in reversed(range(self.num_exits - 1)):
            costs[k] = min(costs[k], np.nextafter(costs[k + 1], -np.inf))
        return costs

    def of_images(self, executed: npt.NDArray[np.bool_] | None, used: Sequence[int] | None = None) -> ImageCosts:
        """Return what each image costs at each exit, where these exits are ``used`` (`cumulative`).

        Args:
            executed: (K, N, P) whether image n has executed part p when it reaches exit k; None where nothing adapts.
            used: as for `cumulative`.

        Example:
            >>> executed = np.array([[[True, False], [False, False]]])
            >>> CostTable("macs", [[10.0]], parts=[2.0, 3.0]).of_images(executed).all
            array([[12., 10.]])
        """
        return image_costs(self.cumulative(used), self.parts, executed)


@dataclass(frozen=True, eq=False)
class ImageCosts:
    """What each of N images costs that leaves at each of K exits.

    Attributes:
        fixed: (K,) what every image costs at an exit, cumulative and increasing.
        added: (K, N) what the optional parts add that the image has executed by then, never falling with the exit; None
            where nothing adapts inside, so that all images cost the same.
        parts: (P,) the cost of each optional part.
    """

    fixed: Floats
    added: Floats | None = None
    parts: Floats = field(default_factory=lambda: np.empty(0))

    @property
    def all(self) -> Floats:
        """(K, N) the costs; (K, 1) where all images cost the same."""
        return self.fixed[:, None] if self.added is None else self.fixed[:, None] + self.added

    @cached_property
    def means(self) -> Floats:
        """(K,) the mean cost if all images leave at an exit, increasing."""
        return self.fixed if self.added is None else self.fixed + self.added.mean(axis=1)

    def at(self, exits: npt.NDArray[np.int64]) -> Floats:
        """Return (N,) what each image costs that leaves at these exits, (N,)."""
        costs: Floats = self.fixed[exits]
        return costs if self.added is None else costs + self.added[exits, np.arange(len(exits))]

    def mean(self, exits: npt.NDArray[np.int64]) -> float:
        """Return the mean cost if images leave at these exits, (N,)."""
        if self.added is None:
            return float(mean_cost(np.bincount(exits, minlength=len(self.fixed)), self.fixed))
        return float(self.at(exits).mean())

    def part(self, images: Any) -> ImageCosts:
        """Return the costs of some images, chosen by indices, a mask or a slice."""
        return self if self.added is None else ImageCosts(self.fixed, self.added[:, images], self.parts)

    def of_exits(self, exits: Sequence[int]) -> ImageCosts:
        """Return the costs of some exits."""
        at = list(exits)
        return ImageCosts(self.fixed[at], None if self.added is None else self.added[at], self.parts)


def image_costs(cost_per_exit: Floats, parts: Floats, executed: npt.NDArray[np.bool_] | None) -> ImageCosts:
    """Return what images cost, of the costs of exits (K,), of optional parts (P,), and what was executed (K, N, P).

    Raises:
        UserError: if optional parts have costs, and it is not known which of them were executed.
    """
    if not parts.any():
        return ImageCosts(cost_per_exit, None, parts)
    if executed is None or executed.shape[2] != len(parts):
        known = "do not say which were executed" if executed is None else f"are of {executed.shape[2]}"
        raise UserError(
            f"The costs count {len(parts)} optional parts of the network, and the scores {known}: score the images "
            "with this network."
        )
    return ImageCosts(cost_per_exit, executed @ parts, parts)


def mean_cost(left: npt.NDArray[np.integer] | Floats, cost_per_exit: Floats) -> Floats:
    """Return (...) the mean cost where left (..., K) images left at each exit; all callers get the same bits."""
    # Shares first: if all images leave at one exit, the mean is then exactly its cost.
    mean: Floats = (left / left.sum(axis=-1, keepdims=True) * cost_per_exit).sum(axis=-1)
    return mean


def checked_costs(cost_per_exit: npt.ArrayLike, num_exits: int) -> Floats:
    """Return the costs (K,) as float64: finite, at least 0, increasing, one for each exit; else raise a UserError."""
    try:
        costs = np.asarray(cost_per_exit, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise UserError(f"Costs must be one number for each exit, not {cost_per_exit!r}.") from error
    if costs.shape != (num_exits,):
        raise UserError(
            f"There must be one cumulative cost for each of the {num_exits} exits; the given costs have shape "
            f"{costs.shape}."
        )
    if not (np.isfinite(costs).all() and (costs >= 0).all()):
        raise UserError(f"Costs must be finite and at least 0, not {costs.tolist()}.")
    if not (np.diff(costs) > 0).all():
        raise UserError(f"Costs are cumulative, so each exit must cost more than the one before, not {costs.tolist()}.")
    return costs


def _numbers(name: str, given: Any) -> Floats:
    try:
        return np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise UserError(f"The costs of {name} must be a table of numbers, not {given!r}.") from error


def _increase(start: float, to: float) -> float:
    """Return the number that, added to ``start``, gives exactly ``to``; their difference can be off by a last digit."""
    step = to - start
    while start + step < to:
        step = float(np.nextafter(step, np.inf))
    while start + step > to:
        step = float(np.nextafter(step, -np.inf))
    return step if start < to else 0.0
