"""What exits cost where neighbouring stages run as one: it depends on which exits are used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from ranet.errors import UserError

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class FusedStageCosts:
    """The cost of every fused stage of a network, cut overhead included.

    A cut between two stages is not free, and a head that nobody asks need not be computed. So stages without a used
    exit between them run as one, and what an image costs that leaves at an exit depends on which exits before it are
    used.

    Attributes:
        table: (K, K) positive; ``table[a, b]`` is the cost of one image in the stages a..b as one fused stage that is
            answered at exit b (from 0). Below the diagonal there is nothing: NaN, whatever was given.

    Raises:
        UserError: if this is no such table.

    Example:
        >>> costs = FusedStageCosts([[2, 3], [0, 2.5]])
        >>> costs.cumulative([0, 1]), costs.cumulative([1]), costs.alone
        (array([2. , 4.5]), array([2., 3.]), array([2., 3.]))
    """

    table: Floats

    def __post_init__(self) -> None:
        try:
            given = np.asarray(self.table, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise UserError(f"The costs of fused stages must be a table of numbers, not {self.table!r}.") from error
        if given.ndim != 2 or given.shape[0] != given.shape[1] or not given.size:
            raise UserError(
                "The costs of fused stages must be a square table, the first stage down and the last across; this one "
                f"has shape {given.shape}."
            )
        for first, last in zip(*np.triu_indices(len(given)), strict=True):
            if not 0 < given[first, last] < np.inf:
                raise UserError(
                    f"Every fused stage must have a finite cost above 0, stages {first + 1} to {last + 1} have "
                    f"{given[first, last]}."
                )
        table = np.full_like(given, np.nan)
        table[np.triu_indices(len(given))] = given[np.triu_indices(len(given))]
        object.__setattr__(self, "table", table)

    @property
    def num_exits(self) -> int:
        """K, the number of exits."""
        return len(self.table)

    @property
    def alone(self) -> Floats:
        """(K,) the cost of each exit where everybody leaves at it, in one fused stage, as under a deadline; increasing.

        It is the first row of the table, cautiously: where an earlier exit was measured as no cheaper, its cost stands
        for the later one, too.
        """
        costs = self.table[0].copy()
        for k in range(1, len(costs)):
            costs[k] = max(costs[k], np.nextafter(costs[k - 1], np.inf))
        return costs

    @cached_property
    def cheapest(self) -> Floats:
        """(K, K) the table without the noise of measurements by which a cut would save: ``cheapest[a, b]``.

        Where the stages a..b were measured as dearer in one than the same stages with cuts and heads between them, the
        sum of these stands for them. So to use fewer exits never costs more.
        """
        table = self.table.copy()
        for length in range(1, self.num_exits):
            for first in range(self.num_exits - length):
                last = first + length
                for cut in range(first, last):
                    table[first, last] = min(table[first, last], table[first, cut] + table[cut + 1, last])
        return table

    def cumulative(self, used: Sequence[int]) -> Floats:
        """(K,) the cumulative cost of each exit where these exits are used, increasing.

        For used exits e_1 < e_2 < ... it is sum_{i <= j} cheapest[e_{i-1} + 1, e_i], with e_0 = -1. For another exit it
        is what an image would cost that was answered there, behind the used exit before it, and less than the next
        exit's cost, if need be by the last digit.

        Args:
            used: exits from 0, ascending; the last exit is one of them.

        Raises:
            UserError: if they are not.

        Example:
            >>> FusedStageCosts([[2, 3, 4.5], [0, 2.5, 3], [0, 0, 1]]).cumulative([0, 2])
            array([2. , 4.5, 5. ])
        """
        exits = list(used)
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
