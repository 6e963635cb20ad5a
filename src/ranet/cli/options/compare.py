"""Check of the options of ranet compare, before anything is read."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from ranet.cli.options.shared import check_unit, listed
from ranet.errors import UserError


def check_options(config: DictConfig) -> None:
    """Refuse invalid options."""
    check_unit(config.unit)
    if isinstance(config.budgets, bool) or not isinstance(config.budgets, int) or config.budgets < 2:
        raise UserError(f"budgets={config.budgets} must be a whole number of at least 2.")
    for folder in listed(config.runs):
        if not Path(str(folder)).is_dir():
            raise UserError(f"There is no folder {folder} to look for runs in.")
