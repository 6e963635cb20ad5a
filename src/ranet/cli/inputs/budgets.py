"""The option ``budget``, in the unit of the costs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from ranet.cli.inputs.currency import Currency
from ranet.cli.options.shares import is_number, is_share, parse_share
from ranet.errors import UserError

SWEEP = 20  # budgets from the first exit's cost to the last's


def budgets(config: Mapping[str, Any], of: Currency) -> list[float]:
    """Return the budgets of the option ``budget``, in the unit of the costs.

    A number is an absolute budget, or under unit=fraction a fraction of the last exit's cost; "50%" is a share of it in
    any unit; "sweep" goes from the first exit's cost to the last's in equal steps.

    Raises:
        UserError: for anything else.
    """
    asked = config["budget"]
    if asked == "sweep":
        # With one exit there is one budget, not SWEEP times the same.
        return np.unique(np.linspace(of.costs[0], of.costs[-1], SWEEP)).tolist()
    wanted = list(asked) if OmegaConf.is_list(asked) else [asked]
    if not wanted:
        raise UserError("budget=[] asks for nothing; give a number, a list of numbers, or sweep.")
    return [_budget(one, config["unit"] == "fraction", of) for one in wanted]


def _budget(asked: object, fraction: bool, of: Currency) -> float:
    value: object = asked
    if is_share(asked):
        if fraction:
            raise UserError(f"budget={asked} is a share already; remove unit=fraction.")
        fraction, value = True, parse_share(asked)
    if not is_number(value):
        raise UserError(f"budget={asked} must be a number such as 40e6, a share such as 50%, a list of them, or sweep.")
    if not fraction:
        if 0 < value < of.costs[0] and value <= 100:
            share = f"{value * 100 if value <= 1 else value:g}%"
            raise UserError(
                f"budget={asked} is less than the {of.costs[0]:,.4g} of the first exit; for a share of the last exit's "
                f"cost say budget={share}."
            )
        return float(value)
    if not 0 < value <= 1:
        raise UserError(f"A budget of {asked} must be above 0 and at most the whole cost of the last exit.")
    return float(value) * float(of.costs[-1])
