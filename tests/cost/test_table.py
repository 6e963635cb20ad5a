from math import inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranet.calibration import CostTable, checked_costs, exit_for_deadline
from ranet.errors import UserError
from tests.calibration.exit_choices import tables


def least(table: np.ndarray, first: int, last: int) -> float:
    """The cheapest way from a stage to an exit, over all cuts between."""
    ways = [table[first, last]]
    ways += [table[first, cut] + least(table, cut + 1, last) for cut in range(first, last)]
    return min(ways)


@given(costs=tables(), data=st.data())
def test_used_exits_cost_the_sum_of_their_fused_stages_and_the_others_less_than_the_next(costs, data):
    last = costs.num_exits - 1
    used = sorted(data.draw(st.sets(st.integers(0, last))) | {last})
    cumulative = checked_costs(costs.cumulative(used), costs.num_exits)
    for k in range(costs.num_exits):
        path = [e for e in used if e < k] + [k]
        expected = sum(least(costs.stages, before + 1, at) for before, at in zip([-1, *path[:-1]], path, strict=True))
        if k in used:
            assert cumulative[k] == pytest.approx(expected)
        else:
            following = next(e for e in used if e > k)
            lowest = min([expected, *cumulative[k + 1 : following + 1]])
            assert cumulative[k] == pytest.approx(lowest)


@given(costs=tables())
def test_a_deadline_takes_the_row_of_the_first_stage_in_order(costs):
    np.testing.assert_allclose(costs.alone, np.maximum.accumulate(costs.stages[0]))
    choice = exit_for_deadline(costs.alone, float(costs.stages[0].max()) * 1.001)
    assert choice.policy.promise.exit_index == costs.num_exits - 1


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ([[1.0, 2.0]], r"square table.* \(1, 2\)"),
        ([], "square table"),
        ([["a"]], "table of numbers"),
        ([[1, 2], [0, np.nan]], "stages 2 to 2 have nan"),
        ([[1, -1], [0, 1]], "stages 1 to 2 have -1.0"),
        ([[1, inf], [0, 1]], "stages 1 to 2 have inf"),
    ],
)
def test_tables_that_are_none_are_named(table, message):
    with pytest.raises(UserError, match=message):
        CostTable("ms", table)


@pytest.mark.parametrize("used", [[], [0], [1, 0, 2], [0, 0, 2], [-1, 2], [0, 3]])
def test_sets_that_are_none_are_named(used):
    with pytest.raises(UserError, match="last exit, 2"):
        CostTable("ms", np.ones((3, 3))).cumulative(used)
