"""One stage of training in a folder, from its start or from its last checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytorch_lightning as pl
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from ranet.cli.ending import when_stopped
from ranet.cli.inputs.build import build_classifier, build_data, build_trainer
from ranet.cli.inputs.scoring import computed_by
from ranet.cli.outputs.run_folder import write_record
from ranet.cli.training.resume import finished_epochs, resume_step
from ranet.data.checks.described import split_notices, split_table
from ranet.data.module import ImageData
from ranet.data.record import DataRecord
from ranet.errors import UserError
from ranet.models.checkpoint_files import LAST, read_checkpoint
from ranet.models.staged import StagedNetwork
from ranet.support.console import new_console, print_sheets, say
from ranet.support.files import default_cache
from ranet.support.hardware import limit_threads
from ranet.support.progress import Bar
from ranet.support.sheet import sheet_of_cells
from ranet.training.classifier import MultiExitClassifier
from ranet.training.features import FeatureData
from ranet.training.run.process_memory import keep_freed_memory
from ranet.training.techniques.technique import Technique


def fit(
    config: DictConfig,
    technique: Technique,
    folder: Path,
    first_stage: StagedNetwork | None = None,
    record: DictConfig | None = None,
) -> None:
    """Train, and write checkpoints, metrics and the record of the run into the folder.

    Args:
        config: of the stage.
        technique: to train with.
        folder: of the stage.
        first_stage: for a second stage, the network of the first.
        record: the configuration to write, if it is not that of the stage.

    Raises:
        UserError: if options, data and folder do not fit together; then nothing is written.
    """
    record = config if record is None else record
    last = folder / "checkpoints" / LAST
    step = resume_step(record, folder, last)
    pl.seed_everything(config.seed, workers=True, verbose=False)
    data = build_data(config.data)
    if step is not None:
        require_same_data(last, data, folder)
    rank_zero_only(_describe)(data)
    resumed = None if step is None else read_checkpoint(last)["ranet"]
    classifier = build_classifier(config, technique, data, first_stage, resumed)
    trainer = build_trainer(config, folder, validates=len(data.val_dataloader()) > 0, resume_step=step)
    _refuse_distributed_sweep(trainer)
    limit_threads(trainer.num_devices)
    classifier.make_optimization(config.trainer.max_epochs)  # whose options are refused before anything is written
    write_record(folder, record)
    if trainer.strategy.root_device.type == "cpu":
        keep_freed_memory()
    with when_stopped(lambda _: _stopped(config, last)):
        rank_zero_only(print)(f"Training {config.run_name} {_beginning(config, last)} in {folder}", flush=True)
        module = _features(technique, classifier, data, trainer) if technique.backbone == "frozen" else data
        trainer.fit(classifier, datamodule=module, ckpt_path=None if step is None else last, weights_only=True)


def _features(
    technique: Technique, classifier: MultiExitClassifier, data: ImageData, trainer: pl.Trainer
) -> FeatureData:
    """Return the data of training heads alone, with all features computed."""
    if trainer.world_size > 1:
        raise UserError("Heads on a frozen backbone are trained in one process; use trainer.devices=1.")
    network = classifier.network.to(trainer.strategy.root_device)
    with Bar("Computing features") as shown:
        features = FeatureData(network, data, default_cache(), computed_by(), technique.feature_copies, shown)
        features.setup()
    return features


def _beginning(config: DictConfig, last: Path) -> str:
    """Return where training begins."""
    done, epochs = finished_epochs(last), config.trainer.max_epochs
    return f"from epoch {done + 1} of {epochs}" if done < epochs else f"is done, with all {epochs} epochs,"


def _stopped(config: DictConfig, last: Path) -> str:
    """Return the sentence that says how to resume a stopped training."""
    done, epochs = finished_epochs(last), config.trainer.max_epochs
    return how_to_go_on(config, f"from epoch {done + 1} of {epochs}" if done < epochs else "with the evaluation")


def how_to_go_on(config: DictConfig, where: str) -> str:
    """Return the sentence that says how to resume a stopped command."""
    option = "run" if HydraConfig.get().mode is RunMode.RUN else "sweep"
    return f"Stopped; the same command with {option}={config[option]} resume=true continues {where}."


def require_same_data(checkpoint: Path, data: ImageData, folder: Path) -> None:
    """Refuse data that changed since a checkpoint was trained on them.

    Args:
        checkpoint: the file.
        data: as they are now.
        folder: of the run, for the sentence.

    Raises:
        UserError: if the classes or images are others than those of the checkpoint.
    """
    record = DataRecord.from_recipe(read_checkpoint(checkpoint)["ranet"])
    if record is None:
        raise UserError(
            f"{checkpoint} was written by an earlier ranet, which did not record its images, so it is not known "
            "whether they are still the same; choose another run=."
        )
    record.require_same(data.record(), str(folder))


def _describe(data: ImageData) -> None:
    """Print how many images each split has, and what is odd about them."""
    heading, *rows = split_table(data)
    console = new_console()
    print_sheets(console, sheet_of_cells("", heading, rows))
    say(console, *split_notices(data))


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
