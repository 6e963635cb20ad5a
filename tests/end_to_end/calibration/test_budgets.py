"""What budget= means, in every currency."""

import re

import numpy as np
import pytest
from omegaconf import OmegaConf
from ranet.cli.inputs.budgets import SWEEP, budgets
from ranet.cli.inputs.currency import Currency

from ranet.errors import UserError

OF = Currency(np.array([2.0, 3.0, 8.0]), "ms")


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
    config = OmegaConf.create({"budget": budget, "unit": unit})
    assert budgets(config, OF) == pytest.approx(expected, rel=1e-12)


def test_with_one_exit_a_sweep_is_one_budget() -> None:
    assert budgets(OmegaConf.create({"budget": "sweep", "unit": None}), Currency(np.array([4.0]), "")) == [4.0]


@pytest.mark.parametrize(
    ("budget", "unit", "message"),
    [
        (1.5, "fraction", "at most all of the last exit's cost"),
        (0, "fraction", "more than nothing"),
        ("101%", "ms", "at most all"),
        ("-5%", "ms", "more than nothing"),
        ("nan%", "ms", "more than nothing"),
        ("50%", "fraction", "leave out unit=fraction"),
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
        budgets(OmegaConf.create({"budget": budget, "unit": unit}), OF)
