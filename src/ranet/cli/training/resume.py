"""Resuming a training run: whether the folder holds one, and whether it has the same configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from ranet.cli.inputs.build import plain
from ranet.cli.outputs.run_folder import CONFIG
from ranet.errors import UserError
from ranet.models.checkpoint_files import read_checkpoint
from ranet.support.hardware import training_precision

# What may differ between a run and its resumption: nothing of it changes what is learned.
_FREE_GROUPS = ("resume", "evaluate", "unit", "logger", "run", "sweep")
_FREE_OPTIONS = ("data.root", "data.download", "data.num_workers", "trainer.enable_progress_bar")


def resume_step(config: DictConfig, folder: Path, last: Path) -> int | None:
    """Return the step at which the run in the folder resumes; None if it starts.

    Args:
        config: of this command.
        folder: of the run.
        last: its last checkpoint, if it has one yet.

    Raises:
        UserError: if the folder holds a run that would be overwritten, or one with another configuration.
    """
    if not last.exists():
        return None
    if not config.resume:
        raise UserError(
            f"{folder} holds a training run already; add resume=true to continue it, or choose another run=."
        )
    before, now = _flat(OmegaConf.load(folder / CONFIG)), _flat(config)
    for option in sorted({*before, *now}):
        old, new = before.get(option), now.get(option)
        if old != new and option.split(".")[0] not in _FREE_GROUPS and option not in _FREE_OPTIONS:
            raise UserError(f"{folder} was trained with {option}={old}, not {new}; resume with the same command.")
    return int(read_checkpoint(last)["global_step"])


def settle_precision(config: DictConfig, folder: Path) -> None:
    """Replace trainer.precision=auto by the best precision here, or by that of the run in the folder."""
    if config.trainer.precision != "auto":
        return
    here = training_precision(str(config.trainer.accelerator))
    begun = config.resume and (folder / CONFIG).exists()
    config.trainer.precision = OmegaConf.load(folder / CONFIG).trainer.precision if begun else here
    if config.trainer.precision != here:
        rank_zero_only(print)(
            f"The run was started with trainer.precision={config.trainer.precision} and continues with it; "
            f"a new run would take {here} here."
        )


def finished_epochs(last: Path) -> int:
    """Return how many epochs a run has finished, from its last checkpoint, if it has one yet."""
    return int(read_checkpoint(last)["epoch"]) + 1 if last.exists() else 0


def _flat(config: DictConfig | ListConfig) -> dict[str, Any]:
    """Return the values of a configuration by their full names; a list is one value."""
    assert isinstance(config, DictConfig)
    values: dict[str, Any] = {}
    for name, value in plain(config).items():
        if isinstance(value, dict):
            values |= {f"{name}.{inner}": leaf for inner, leaf in _flat(OmegaConf.create(value)).items()}
        else:
            values[name] = value
    return values
