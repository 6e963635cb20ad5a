"""From configuration to objects: the only place where Hydra instantiates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import Callback, LearningRateMonitor, RichProgressBar
from pytorch_lightning.loggers import Logger, WandbLogger

from ranet.data import ImageData
from ranet.errors import UserError, unknown_name
from ranet.models import StagedNetwork, create_network
from ranet.training import MetricsLog, MultiExitClassifier, RandomState, StopAtBadLoss, checkpoint_callbacks

_WANDB_MODES = ("offline", "online", "disabled")


def build(node: DictConfig, **arguments: Any) -> Any:
    """Instantiate a node, with plain lists and dictionaries as arguments."""
    return instantiate(node, _convert_="all", **arguments)


def plain(node: DictConfig) -> dict[str, Any]:
    """A node as a dictionary of plain values, interpolations resolved."""
    values = OmegaConf.to_container(node, resolve=True)
    assert isinstance(values, dict)
    return {str(name): value for name, value in values.items()}


def build_data(node: DictConfig) -> ImageData:
    """The data module, with its data read and split."""
    data = build(node)
    data.prepare_data()
    data.setup()
    return data


def network_options(node: DictConfig, data: ImageData) -> dict[str, Any]:
    """The options of the network: those of the configuration, with class count and image size of the data."""
    options = {option: value for option, value in plain(node).items() if option != "name"}
    for option, value in (("num_classes", data.num_classes), ("image_size", data.image_size)):
        if options[option] is None:
            options[option] = value
    if options["num_classes"] < data.num_classes:
        raise UserError(
            f"model.num_classes={options['num_classes']} is less than the {data.num_classes} classes of the data; "
            "leave it out to follow the data."
        )
    return options


def build_classifier(config: DictConfig, data: ImageData) -> MultiExitClassifier:
    """The Lightning module around a fresh network."""
    options = network_options(config.model, data)
    network: StagedNetwork = create_network(config.model.name, **options)
    if config.compile:
        network.compile()
    recipe = {
        "network": {"name": config.model.name, "options": options},
        "data": plain(config.data),
    }
    return MultiExitClassifier(
        network, build(config.optim.optimizer), build(config.optim.schedule), config.technique.exit_weights, recipe
    )


def build_trainer(config: DictConfig, folder: Path, validates: bool, resume_step: int | None) -> pl.Trainer:
    """The Lightning trainer, with checkpoints, logs and a progress bar."""
    callbacks: list[Callback] = [StopAtBadLoss(), RandomState(), LearningRateMonitor("epoch")]
    if config.trainer.enable_progress_bar:
        callbacks.append(RichProgressBar(leave=True))
    callbacks += checkpoint_callbacks(folder / "checkpoints", validates)
    trainer: pl.Trainer = build(
        config.trainer,
        default_root_dir=str(folder),
        callbacks=callbacks,
        logger=build_loggers(config, folder, resume_step),
        use_distributed_sampler=False,  # our loaders do it themselves
        num_sanity_val_steps=0,
    )
    return trainer


def build_loggers(config: DictConfig, folder: Path, resume_step: int | None) -> list[Logger]:
    """CSV always; wandb unless it is disabled."""
    loggers: list[Logger] = [MetricsLog(folder, resume_step)]
    mode = config.logger.wandb.mode
    if mode not in _WANDB_MODES:
        raise unknown_name("logger.wandb.mode", str(mode), _WANDB_MODES)
    if mode != "disabled":
        loggers.append(
            WandbLogger(
                name=config.run_name,
                save_dir=str(folder),
                project=config.logger.wandb.project,
                group=config.logger.wandb.group,
                mode=mode,
                config=plain(config),
            )
        )
    return loggers
