"""ranet train: train a multi-exit network, keep its best checkpoint, and draw its curves."""

from __future__ import annotations

import pytorch_lightning as pl
import wandb
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from ranet.cli.build import build_classifier, build_data, build_trainer
from ranet.cli.edge import command
from ranet.cli.evaluate import report_curves
from ranet.cli.resume import resume_step
from ranet.cli.run_folder import run_folder, write_record
from ranet.cli.trained import check_unit, evaluation_device
from ranet.errors import UserError
from ranet.training import load_trained
from ranet.training.saving import LAST


@command("train")
def main(config: DictConfig) -> None:
    """Train, as the configuration says."""
    check_unit(config.unit)
    folder = run_folder()
    last = folder / "checkpoints" / LAST
    step = resume_step(config, folder, last)

    if not isinstance(config.seed, int) or not 0 <= config.seed < 2**32:
        raise UserError(f"seed={config.seed} must be a whole number from 0 to {2**32 - 1}.")
    pl.seed_everything(config.seed, workers=True, verbose=False)
    data = build_data(config.data)
    classifier = build_classifier(config, data)
    trainer = build_trainer(config, folder, validates=len(data.val_dataloader()) > 0, resume_step=step)
    _refuse_distributed_sweep(trainer)
    classifier.make_optimization(config.trainer.max_epochs)  # whose options are refused before anything is written
    write_record(folder, config)
    beginning = "from the start" if step is None else f"from step {step}"
    rank_zero_only(print)(f"Training {config.run_name} {beginning} in {folder}")
    try:
        trainer.fit(classifier, datamodule=data, ckpt_path=None if step is None else last, weights_only=True)
    finally:
        wandb.finish()
    if config.evaluate and trainer.is_global_zero:
        trained = load_trained(folder)
        trained.network.to(evaluation_device())
        # A data module of its own: the trainer's deals its images out to the processes of a distributed run.
        report_curves(trained, build_data(config.data), folder / "evaluation", config.unit, config.lazy)


def _refuse_distributed_sweep(trainer: pl.Trainer) -> None:
    """Refuse what would hang: Lightning starts the other processes once, with the command line of the whole sweep."""
    if HydraConfig.get().mode is not RunMode.MULTIRUN or trainer.world_size == 1:
        return
    environment = getattr(trainer.strategy, "cluster_environment", None)
    if environment is None or not environment.creates_processes_externally:
        raise UserError(
            "A sweep (-m) cannot start the processes of distributed runs; use trainer.devices=1, one command for each "
            "run, or hydra/launcher=submitit_slurm."
        )


if __name__ == "__main__":  # Lightning starts the other processes of a distributed run this way
    main()
