"""Checks of options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ranet.errors import UserError, unknown_name

#: Units that are counted, not measured.
UNITS = ("macs", "paper_ops")


def check_unit(unit: str) -> None:
    """Refuse an unknown unit."""
    if unit not in UNITS:
        raise unknown_name("unit", unit, UNITS)


def check_seed(seed: Any) -> None:
    """Refuse a seed that PyTorch or NumPy does not accept."""
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**32:
        raise UserError(f"seed={seed} must be a whole number from 0 to {2**32 - 1}.")


def has_network(config: DictConfig) -> bool:
    """Return whether the options name a trained network: ``checkpoint``, or ``weights`` with ``model`` and ``data``.

    Raises:
        UserError: if both are given, or weights without the network and data that they are for.
    """
    if config.weights is None:
        return config.checkpoint is not None
    if config.checkpoint is not None:
        raise UserError("Say either checkpoint= or weights=, not both.")
    for name, given in (("model", config.model.name is not None), ("data", "_target_" in config.data)):
        if not given:
            raise UserError(f"weights= alone do not say which {name} they are for; add {name}=NAME.")
    return True


def check_checkpoint(config: DictConfig) -> None:
    """Refuse a checkpoint that does not exist, before PyTorch is imported to read it."""
    if config.checkpoint is not None and not Path(config.checkpoint).exists():
        raise UserError(f"There is no run folder or checkpoint file {Path(config.checkpoint)}.")


def check_without_checkpoint(config: DictConfig, instead: str, *names: str) -> None:
    """Refuse options of a trained network where ``instead`` takes its place."""
    groups = {"model": config.model.name is not None, "data": "_target_" in config.data}
    for name in names:
        if groups[name] if name in groups else config[name]:
            raise UserError(f"{name}= goes with checkpoint= and has no effect on {instead}=; remove it.")


def listed(value: Any) -> list[Any]:
    """Return a list without duplicates, also for a single value."""
    return list(dict.fromkeys(value)) if OmegaConf.is_list(value) else [value]
