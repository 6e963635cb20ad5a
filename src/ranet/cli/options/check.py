"""What ranet check is asked for, checked before anything is read."""

from __future__ import annotations

from omegaconf import DictConfig

from ranet.errors import UserError


def check_options(config: DictConfig) -> None:
    """Refuse what cannot be."""
    if config.output is not None and not config.output.lower().endswith(".csv"):
        raise UserError(f"output={config.output} must be a .csv file.")
