"""Check of the options of ranet costs, before anything is counted."""

from __future__ import annotations

from omegaconf import DictConfig

from ranet.errors import UserError
from ranet.support.shapes import checked_image_size


def check_options(config: DictConfig) -> None:
    """Refuse invalid options."""
    if config.model.name is None:
        raise UserError("model=as_trained goes with a checkpoint; choose the network with model=NAME.")
    if config.image_size is not None:
        checked_image_size(config.image_size)
