"""What ranet costs is asked for, checked before anything is counted."""

from __future__ import annotations

from omegaconf import DictConfig

from ranet.errors import UserError


def check_options(config: DictConfig) -> None:
    """Refuse what cannot be."""
    if config.model.name is None:
        raise UserError("model=as_trained goes with a checkpoint; choose the network with model=NAME.")
    if config.image_size is not None and (not isinstance(config.image_size, int) or config.image_size < 1):
        raise UserError(f"image_size={config.image_size} must be a whole number of pixels.")
