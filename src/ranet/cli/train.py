"""ranet train: train a multi-exit network, keep its best checkpoint, and draw its curves."""

from __future__ import annotations

from pathlib import Path

import pytorch_lightning as pl
import wandb
from omegaconf import DictConfig, OmegaConf

from ranet.cli.build import build_classifier, build_data, build_trainer, plain
from ranet.cli.edge import command
from ranet.cli.evaluate import report_curves
from ranet.cli.run_folder import CONFIG, run_folder, write_record
from ranet.cli.trained import check_unit, evaluation_device
from ranet.errors import UserError
from ranet.training import load_trained
from ranet.training.callbacks import LAST
from ranet.training.checkpoints import read_checkpoint

# What may differ between a run and its resumption.
_FREE_OPTIONS = ("resume", "evaluate", "unit", "lazy", "logger", "run", "sweep")


@command("train")
def main(config: DictConfig) -> None:
    """Train, as the configuration says."""
    check_unit(config.unit)
    folder = run_folder()
    last = folder / "checkpoints" / LAST
    resume_step = _check_resume(config, folder, last)

    pl.seed_everything(config.seed, workers=True, verbose=False)
    data = build_data(config.data)
    classifier = build_classifier(config, data)
    write_record(folder, config)
    trainer = build_trainer(config, folder, validates=len(data.val_dataloader()) > 0, resume_step=resume_step)
    try:
        trainer.fit(classifier, datamodule=data, ckpt_path=last if resume_step is not None else None, weights_only=True)
    finally:
        wandb.finish()
    if config.evaluate and trainer.is_global_zero:
        trained = load_trained(folder)
        trained.network.to(evaluation_device())
        # A data module of its own: the trainer's deals its images out to the processes of a distributed run.
        report_curves(trained, build_data(config.data), folder / "evaluation", config.unit, config.lazy)


def _check_resume(config: DictConfig, folder: Path, last: Path) -> int | None:
    """The step that a run goes on from, or None for a new run.

    Raises:
        UserError: if the folder holds a run that would be overwritten, or one with another configuration.
    """
    if not last.exists():
        return None
    if not config.resume:
        raise UserError(
            f"{folder} holds a training run already; add resume=true to go on with it, or choose another run=."
        )
    before = OmegaConf.to_container(OmegaConf.load(folder / CONFIG))
    assert isinstance(before, dict)
    for option, value in plain(config).items():
        if option not in _FREE_OPTIONS and before.get(option) != value:
            raise UserError(f"{folder} was trained with other values of {option}; resume with the same command.")
    return int(read_checkpoint(last)["global_step"])


if __name__ == "__main__":  # Lightning starts the other processes of a distributed run this way
    main()
