"""Check of the options of ranet train, before anything is read."""

from __future__ import annotations

from omegaconf import DictConfig

from ranet.cli.options.shared import check_seed, check_unit
from ranet.errors import UserError


def check_options(config: DictConfig) -> None:
    """Refuse invalid options."""
    check_unit(config.unit)
    check_seed(config.seed)
    if config.weights is not None and config.technique.get("first_stage_run") is not None:
        raise UserError("technique.first_stage_run has the weights to start from; remove weights=.")
