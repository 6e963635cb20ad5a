"""Two stages of training in one command: first the network and then its heads, or first heads and then all."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ranet.cli.inputs.build import build, build_classifier, build_data, build_network_recipe
from ranet.cli.outputs.run_folder import CONFIG, write_record
from ranet.cli.training.fit import fit, require_same_data
from ranet.cli.training.resume import finished_epochs, resume_step
from ranet.errors import UserError
from ranet.models.checkpoint_files import LAST, find_checkpoint
from ranet.models.staged import StagedNetwork
from ranet.training.checkpoints import load_trained
from ranet.training.techniques.technique import Technique

#: Folder of the first stage in that of the run: a run of its own, with checkpoints, metrics and record.
FIRST_STAGE = "stage1"
# What decides which images are held out.
_SPLIT = ("name", "image_size", "validation_size", "validation_from", "split_seed")


def fit_two_stages(config: DictConfig, technique: Technique, folder: Path) -> None:
    """Train both stages, or the rest of them.

    Raises:
        UserError: if an option does not fit a stage, or the first stage is missing; then nothing is written.
    """
    resume_step(config, folder, folder / "checkpoints" / LAST)  # refuses a folder that holds another run
    before, after = _epochs(config, technique)
    second = _changed(config, trainer={"max_epochs": after})
    last_technique = technique.last_stage()
    if technique.first_stage_run is not None:
        fit(second, last_technique, folder, _finished(config, technique), record=config)
        return
    own = folder / FIRST_STAGE
    first_technique = technique.first_stage()
    first = _changed(
        config,
        run_name=f"{config.run_name}_{FIRST_STAGE}",
        technique={"_target_": config.technique._target_, **asdict(first_technique)},
        trainer={"max_epochs": before},
    )
    if not _is_finished(own, before, first):
        if (folder / "checkpoints" / LAST).exists():
            raise UserError(
                f"The first stage is missing: {folder} is in its second, and {own} holds no finished first stage; "
                "put it back, or choose another run=."
            )
        _check_second_stage(second, technique)
        write_record(folder, config)  # so that what lies in the folder is known to belong to one run of two stages
        fit(first, first_technique, own)
    require_same_data(own / "checkpoints" / LAST, build_data(config.data), own)
    fit(second, last_technique, folder, load_trained(own).network, record=config)


def _epochs(config: DictConfig, technique: Technique) -> tuple[int, int]:
    """Return the epochs of both stages."""
    epochs = config.trainer.max_epochs
    if technique.first_stage_run is not None:
        return 0, epochs
    if not isinstance(epochs, int) or epochs < 2:
        raise UserError(f"trainer.max_epochs={epochs} must be at least 2, to be shared by two stages.")
    before = min(max(1, round(technique.first_stage_share * epochs)), epochs - 1)
    return before, epochs - before


def _changed(config: DictConfig, **values: Any) -> DictConfig:
    """Return a copy of the configuration with other values; dictionaries change the values that they name."""
    changed = OmegaConf.merge(OmegaConf.to_container(config, resolve=True), values)
    assert isinstance(changed, DictConfig)
    return changed


def _is_finished(folder: Path, epochs: int, config: DictConfig) -> bool:
    """Return whether the folder holds a finished first stage."""
    last = folder / "checkpoints" / LAST
    return resume_step(config, folder, last) is not None and finished_epochs(last) >= epochs


def _check_second_stage(config: DictConfig, technique: Technique) -> None:
    """Refuse options that do not fit the second stage, before the first is trained."""
    data = build_data(config.data)
    network = build_classifier(config, technique.first_stage(), data).network
    build_classifier(config, technique.last_stage(), data, network).make_optimization(config.trainer.max_epochs)


def _finished(config: DictConfig, technique: Technique) -> StagedNetwork:
    """Return the network of a finished run, to be used as the first stage."""
    run = str(technique.first_stage_run)
    try:
        trained = load_trained(find_checkpoint(run))
    except UserError as error:
        raise UserError(f"The first stage is missing: {error}") from error
    theirs = trained.recipe["network"]
    first = technique.first_stage()
    if theirs != build_network_recipe(config, first, build_data(config.data)):
        raise UserError(
            f"The first stage {run} is of another network than model={config.model.name} with its options; say the "
            f"same model, and train it {'with' if first.collaboration else 'without'} collaboration."
        )
    before, now = build("data", OmegaConf.create(trained.recipe["data"])), build("data", config.data)
    for option in _SPLIT:
        if getattr(before, option) != getattr(now, option):
            raise UserError(
                f"The first stage {run} was trained with data.{option}={getattr(before, option)}, not "
                f"{getattr(now, option)}: it may have learned from "
                "images that are held out now; use the same data and split."
            )
    require_same_data(trained.path, build_data(config.data), Path(run))
    record, last = Path(run) / CONFIG, Path(run) / "checkpoints" / LAST
    if record.exists() and last.exists():
        wanted, had = OmegaConf.load(record).trainer.max_epochs, finished_epochs(last)
        if had < wanted:
            raise UserError(
                f"The first stage {run} has had {had} of its {wanted} epochs; continue it first (resume=true)."
            )
    return trained.network
