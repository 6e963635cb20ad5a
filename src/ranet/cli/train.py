"""ranet train: train a multi-exit network, keep its best checkpoint, and draw its curves."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from ranet.cli.build import build, build_data
from ranet.cli.edge import command
from ranet.cli.ending import when_stopped
from ranet.cli.evaluate import report_curves
from ranet.cli.fit import fit, how_to_go_on
from ranet.cli.run_folder import run_folder
from ranet.cli.trained import check_unit, evaluation_device
from ranet.cli.two_stages import fit_two_stages
from ranet.errors import UserError
from ranet.training import Technique, load_trained


@command("train")
def main(config: DictConfig) -> None:
    """Train, as the configuration says."""
    check_unit(config.unit)
    if not isinstance(config.seed, int) or not 0 <= config.seed < 2**32:
        raise UserError(f"seed={config.seed} must be a whole number from 0 to {2**32 - 1}.")
    technique: Technique = build("technique", config.technique)
    folder = run_folder()
    if technique.stages == 1:
        fit(config, technique, folder)
    else:
        fit_two_stages(config, technique, folder)
    if config.evaluate:
        with when_stopped(lambda _: how_to_go_on(config, "with the evaluation")):
            _report(config, folder)


@rank_zero_only
def _report(config: DictConfig, folder: Path) -> None:
    trained = load_trained(folder)
    trained.network.to(evaluation_device())
    # A data module of its own: the trainer's deals its images out to the processes of a distributed run.
    report_curves(trained, build_data(config.data), folder / "evaluation", config.unit, config.lazy)


if __name__ == "__main__":  # Lightning starts the other processes of a distributed run this way
    main()
