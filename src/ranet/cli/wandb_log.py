"""Logging to wandb, with one line on the console instead of wandb's own many."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import wandb
from omegaconf import DictConfig
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.loggers.logger import rank_zero_experiment
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from ranet.cli.inputs.build import plain
from ranet.errors import UserError


class WandbLog(WandbLogger):
    """Logs a run to wandb, prints where, and closes it with the run, so that the next job of a sweep has its own.

    Raises:
        UserError: if logging in to wandb fails.
    """

    def __init__(self, config: DictConfig, folder: Path) -> None:
        options = plain(config.logger.wandb)
        settings = wandb.Settings(silent=True, console="off")
        wandb.setup(settings)
        if options["mode"] == "online":  # before anything is written
            try:
                wandb.login()
            except wandb.errors.Error as error:
                raise UserError(f"Logging in to wandb failed: {' '.join(str(error).split())}") from error
        super().__init__(
            name=config.run_name,
            save_dir=str(folder),
            project=options["project"],
            group=options["group"],
            mode=options["mode"],
            config=plain(config),
            settings=settings,
        )

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The run of wandb, which begins at the first access."""
        new = self._experiment is None
        run = super().experiment
        if new:
            offline = self._wandb_init["mode"] == "offline"
            print("wandb:", f"wandb sync {Path(run.dir).parent} uploads this run" if offline else run.url, flush=True)
        return run

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Close the run."""
        super().finalize(status)
        wandb.finish(exit_code=0 if status == "success" else 1)
