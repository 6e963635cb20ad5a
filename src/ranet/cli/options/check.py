"""Check of the options of ranet check, before anything is read."""

from __future__ import annotations

from omegaconf import DictConfig

from ranet.errors import UserError


def check_options(config: DictConfig) -> None:
    """Refuse invalid options."""
    if config.output is not None and not config.output.lower().endswith(".csv"):
        raise UserError(f"output={config.output} must be a .csv file.")
