"""ranet train: train a multi-exit network, keep its best checkpoint, and draw its curves."""

from __future__ import annotations

import sys
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from ranet.cli.ending import when_stopped
from ranet.cli.inputs.build import build
from ranet.cli.inputs.trained import build_data_of, evaluation_device
from ranet.cli.main import main
from ranet.cli.outputs.run_folder import run_folder
from ranet.cli.training.fit import fit, how_to_go_on
from ranet.cli.training.resume import settle_precision
from ranet.cli.training.two_stages import fit_two_stages
from ranet.cli.verbs.evaluate import report_curves
from ranet.training.checkpoints import load_trained
from ranet.training.techniques.technique import Technique


def run(config: DictConfig) -> None:
    """Train, as the configuration says."""
    technique: Technique = build("technique", config.technique)
    folder = run_folder()
    settle_precision(config, folder)
    (fit_two_stages if technique.in_two_stages else fit)(config, technique, folder)
    if config.evaluate:
        with when_stopped(lambda _: how_to_go_on(config, "with the evaluation")):
            _report(config, folder)


@rank_zero_only
def _report(config: DictConfig, folder: Path) -> None:
    trained = load_trained(folder)
    trained.network.to(evaluation_device())
    # A data module of its own: the trainer's deals its images out to the processes of a distributed run.
    data = build_data_of(trained, OmegaConf.create())
    report_curves(trained, data, folder / "evaluation", config.unit)


if __name__ == "__main__":  # Lightning starts the other processes of a distributed run this way
    main(["train", *sys.argv[1:]])
