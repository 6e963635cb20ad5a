"""Check of the options of ranet train, before anything is read."""

from __future__ import annotations

from omegaconf import DictConfig

from ranet.cli.options.shared import check_seed, check_unit


def check_options(config: DictConfig) -> None:
    """Refuse invalid options."""
    check_unit(config.unit)
    check_seed(config.seed)
