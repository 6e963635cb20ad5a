"""Check of the options of ranet export, before anything is read."""

from __future__ import annotations

from omegaconf import DictConfig

from ranet.cli.options.policy_files import read_policies
from ranet.cli.options.shared import check_checkpoint
from ranet.errors import UserError


def check_options(config: DictConfig) -> None:
    """Refuse invalid options."""
    for name, what in (("checkpoint", "RUN"), ("policy", "FILE"), ("output", "FOLDER")):
        if config[name] is None:
            raise UserError(f"Say what to export where: checkpoint=RUN policy=FILE output=FOLDER; add {name}={what}.")
    check_checkpoint(config)
    read_policies(config.policy)
