"""Check of the options of ranet export, before anything is read."""

from __future__ import annotations

from omegaconf import DictConfig

from ranet.cli.options.policy_files import read_policies
from ranet.cli.options.shared import check_checkpoint, has_network
from ranet.errors import UserError


def check_options(config: DictConfig) -> None:
    """Refuse invalid options."""
    for name, what, given in (
        ("checkpoint", "RUN", has_network(config)),
        ("policy", "FILE", config.policy is not None),
        ("output", "FOLDER", config.output is not None),
    ):
        if not given:
            raise UserError(f"Say what to export where: checkpoint=RUN policy=FILE output=FOLDER; add {name}={what}.")
    check_checkpoint(config)
    read_policies(config.policy)
