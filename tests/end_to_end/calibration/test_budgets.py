"""What budget= means, in every unit."""

import re

import numpy as np
import pytest
from omegaconf import OmegaConf

from ranet.calibration.goals import SWEEP, Budget
from ranet.cli.options.calibrate import budget_amounts
from ranet.errors import UserError

ALONE = np.array([2.0, 3.0, 8.0])


def budgets(budget: object, unit: str | None, alone: np.ndarray) -> list[float]:
    asked = OmegaConf.create({"budget": budget}).budget
    return Budget(budget_amounts(asked, fraction=unit == "fraction")).values(alone)


@pytest.mark.parametrize(
    ("budget", "unit", "expected"),
    [
        (3, "ms", [3.0]),
        (1e9, None, [1e9]),
        ("25%", "ms", [2.0]),
        ("100%", "ms", [8.0]),
        (0.5, "fraction", [4.0]),
        ([7, "50%", 2.5], "ms", [7.0, 4.0, 2.5]),
        ([1, 0.25], "fraction", [8.0, 2.0]),
        ("sweep", "fraction", [2 + 6 * step / (SWEEP - 1) for step in range(SWEEP)]),
    ],
)
def test_budgets_are_in_the_unit_of_the_costs(budget: object, unit: str | None, expected: list[float]) -> None:
    assert budgets(budget, unit, ALONE) == pytest.approx(expected, rel=1e-12)


def test_with_one_exit_a_sweep_is_one_budget() -> None:
    assert budgets("sweep", None, np.array([4.0])) == [4.0]


@pytest.mark.parametrize(
    ("budget", "unit", "message"),
    [
        (1.5, "fraction", "at most the whole cost of the last exit"),
        (0, "fraction", "must be above 0 and at most"),
        ("101%", "ms", "at most the whole"),
        ("-5%", "ms", "must be above 0 and at most"),
        ("nan%", "ms", "must be above 0 and at most"),
        ("50%", "fraction", "remove unit=fraction"),
        ("half", "ms", "budget=half must be a number such as 40e6"),
        ("%", "ms", "budget=% must be a number"),
        (False, "ms", "budget=False must be a number"),
        ([3, None], "ms", "budget=None must be a number"),
        ([3, "sweep"], "ms", "budget=sweep must be a number"),
        ([], "ms", "asks for nothing"),
        (10**400, "ms", "must be a number"),
    ],
)
def test_other_budgets_are_refused(budget: object, unit: str, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        budgets(budget, unit, ALONE)
