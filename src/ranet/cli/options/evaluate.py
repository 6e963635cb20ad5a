"""Check of the options of ranet evaluate, before anything is read."""

from __future__ import annotations

from omegaconf import DictConfig

from ranet.calibration.policies.exit_policy import load_policy
from ranet.cli.options.shared import check_checkpoint, check_unit, check_without_checkpoint, has_network
from ranet.errors import UserError


def check_options(config: DictConfig) -> None:
    """Refuse options that are invalid or have no effect."""
    if has_network(config) == (config.scores is not None):
        raise UserError("Say what to evaluate: either checkpoint=RUN, or scores=FILE.npz with policy=FILE.")
    if config.scores is not None:
        check_without_checkpoint(config, "scores", "images", "cache", "model", "data")
        if config.policy is None:
            raise UserError("scores= are evaluated under a policy: add policy=FILE.")
    if config.unit is not None:
        check_unit(config.unit)
    if config.images is not None and config.policy is None:
        raise UserError("images= measures drift and needs policy=FILE.")
    if config.policy is not None and config.unit is not None:
        raise UserError("The policy says in which unit its costs are; remove unit=.")
    if config.images is not None and config.cache is not None:
        raise UserError("Images without labels are scored anew each time; remove cache=.")
    check_checkpoint(config)
    if config.policy is not None:
        load_policy(config.policy)
