"""From configuration to objects: the only place where Hydra instantiates."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import Callback, LearningRateMonitor
from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from ranet.data.module import ImageData
from ranet.errors import UserError, require_known, unknown_name
from ranet.models.staged import StagedNetwork
from ranet.models.weights import start_from_weights
from ranet.training.checkpoints import build_network
from ranet.training.classifier import MultiExitClassifier
from ranet.training.recipe.averaging import AveragedWeights
from ranet.training.recipe.mixing import BatchMixing
from ranet.training.run.callbacks import OwnSignals, RandomState, StopAtBadLoss
from ranet.training.run.metrics_log import MetricsLog
from ranet.training.run.progress import EpochProgress
from ranet.training.run.saving import WholeFiles, checkpoint_callbacks
from ranet.training.techniques.distillation import distillation_loss
from ranet.training.techniques.teachers import FrozenNetwork
from ranet.training.techniques.technique import Technique

_COMPILER_MODES = ("reduce-overhead", "max-autotune")
_WANDB_MODES = ("disabled", "offline", "online")


def build(name: str, node: DictConfig, **arguments: Any) -> Any:
    """Instantiate the node of this name in the configuration, with plain lists and dictionaries as arguments.

    Raises:
        UserError: if the class or function refuses the options.
    """
    if "_target_" not in node:
        raise UserError(f"{name} does not say what to build; choose one of the group with {name}=NAME.")
    try:
        return instantiate(node, _convert_="all", **arguments)
    except InstantiationException as error:
        cause = error.__cause__ or error
        if isinstance(cause, UserError):
            raise cause from error
        if isinstance(cause, TypeError | ValueError | ImportError | MisconfigurationException | InstantiationException):
            raise UserError(f"The options of {name} cannot be used: {' '.join(str(cause).split())}") from error
        raise


def plain(node: DictConfig) -> dict[str, Any]:
    """Return a node as a dictionary of plain values, with interpolations resolved."""
    values = OmegaConf.to_container(node, resolve=True)
    assert isinstance(values, dict)
    return {str(name): value for name, value in values.items()}


def build_data(node: DictConfig) -> ImageData:
    """Return the data module, with its data read and split."""
    data: ImageData = build("data", node)
    data.prepare_data()
    data.setup()
    return data


def network_options(node: DictConfig, data: ImageData) -> dict[str, Any]:
    """Return the options of the network; class count, image size and channels are those of the data by default."""
    if node.name is None:
        raise UserError("model=as_trained goes with a checkpoint; choose the network with model=NAME.")
    options = {option: value for option, value in plain(node).items() if option != "name"}
    size = data.image_size if isinstance(data.image_size, int) else list(data.image_size)
    for option, value in (
        ("num_classes", data.num_classes),
        ("image_size", size),
        ("in_channels", data.facts.channels),
    ):
        if options[option] is None:
            options[option] = value
    if options["in_channels"] != data.facts.channels:
        raise UserError(
            f"model.in_channels={options['in_channels']} must be data.channels={data.facts.channels}; remove it "
            "to use that number."
        )
    if options["num_classes"] < data.num_classes:
        raise UserError(
            f"model.num_classes={options['num_classes']} is less than the {data.num_classes} classes of the data; "
            "remove it to use that number."
        )
    return options


def build_network_recipe(config: DictConfig, technique: Technique, data: ImageData) -> dict[str, Any]:
    """Return the recipe of the network, for ``ranet.training.build_network``."""
    recipe = {"name": config.model.name, "options": network_options(config.model, data)}
    return {**recipe, "collaboration": {"detach": technique.detach}} if technique.collaboration else recipe


def build_classifier(
    config: DictConfig,
    technique: Technique,
    data: ImageData,
    first_stage: StagedNetwork | None = None,
    resumed: Mapping[str, Any] | None = None,
) -> MultiExitClassifier:
    """Return the Lightning module around a new network, or in the second stage around the network of the first.

    A new network starts from the weights that the configuration names; one that is to be resumed, whose recipe is
    given, from its checkpoint.
    """
    recipe = build_network_recipe(config, technique, data)
    new: list[str] = [] if resumed is None else list(resumed.get("new_layers", []))
    if first_stage is None:
        network = build_network(recipe)
        if config.weights is not None and resumed is None:
            new = start_from_weights(network, config.weights)
        teacher = technique.make_teacher(network)
    else:
        network, teacher = technique.second_stage(first_stage)
    if isinstance(teacher, FrozenNetwork) and teacher.classes not in (None, tuple(data.class_names)):
        raise UserError(
            f"The teacher {technique.teacher} was trained on other classes, or on these in another order; use a "
            "teacher of the same classes."
        )
    technique.check_network(network)
    optim, augmentation = config.optim, config.optim.augmentation
    mixing = BatchMixing(network.num_classes, augmentation.mixup, augmentation.cutmix, augmentation.mixing_probability)
    frozen = technique.backbone == "frozen"
    if frozen and mixing.enabled:
        raise UserError(
            "optim.augmentation.mixup and cutmix mix images, and heads on a frozen backbone see none: set both to 0."
        )
    if frozen and config.weights is None:
        raise UserError("A frozen backbone must have learned before: add weights= (a file, a run or a published name).")
    if technique.collaboration and data.batch_size < 2:
        raise UserError("Collaboration normalises over the images of a batch; use a data.batch_size of 2 or more.")
    if not isinstance(config.compile, bool) and config.compile not in _COMPILER_MODES:
        raise unknown_name("compile", str(config.compile), ["true", "false", *_COMPILER_MODES])
    return MultiExitClassifier(
        network,
        build("optim.optimizer", optim.optimizer),
        build("optim.schedule", optim.schedule),
        exit_weights=plain(optim)["exit_weights"],
        label_smoothing=optim.label_smoothing,
        mixing=mixing if mixing.enabled else None,
        equilibrium=None if technique.stages == 2 and first_stage is not None else technique.gradient_equilibrium,
        teacher=teacher,
        distillation=partial(
            distillation_loss,
            temperature=technique.temperature,
            gamma=technique.gamma,
            teach_last=technique.teach_last,
        ),
        survivors=technique.survivors,
        only=None if technique.stages == 2 and first_stage is None else technique.trained_alone(network, new),
        on_features=frozen,
        decay_norm_and_bias=optim.decay_norm_and_bias,
        compile=config.compile,
        channels_last=config.channels_last,
        recipe={
            "network": recipe,
            "data": plain(config.data),
            "record": data.record().to_dict(),
            **({"new_layers": new} if new else {}),
        },
    )


def build_trainer(config: DictConfig, folder: Path, validates: bool, resume_step: int | None) -> pl.Trainer:
    """Return the Lightning trainer, with checkpoints, logs and progress."""
    epochs = config.trainer.max_epochs
    if not isinstance(epochs, int) or epochs < 1:
        raise UserError(
            f"trainer.max_epochs={epochs} must be an integer of at least 1: the learning-rate schedule is laid "
            "over all epochs."
        )
    _keep_lightning_quiet()
    callbacks: list[Callback] = [OwnSignals(), StopAtBadLoss(), RandomState(), LearningRateMonitor("epoch")]
    callbacks.append(EpochProgress(bar=config.trainer.enable_progress_bar))
    if config.optim.ema.decay is not None:
        callbacks.append(AveragedWeights(config.optim.ema.decay))
    callbacks += checkpoint_callbacks(folder / "checkpoints", validates)
    trainer: pl.Trainer = build(
        "trainer",
        config.trainer,
        default_root_dir=str(folder),
        callbacks=callbacks,
        plugins=[WholeFiles()],
        logger=build_loggers(config, folder, resume_step),
        use_distributed_sampler=False,  # our loaders do it themselves
        num_sanity_val_steps=0,
        enable_progress_bar=False,  # EpochProgress has one
    )
    return trainer


def _keep_lightning_quiet() -> None:
    """Drop Lightning's notices that tell the user nothing about this run."""
    # What hardware was found, advertisements, and that the last epoch was the last.
    for name in ("pytorch_lightning.utilities.rank_zero", "lightning_fabric.utilities.distributed"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for notice in (
        "Checkpoint directory .* exists and is not empty",  # that of the resumed run
        "The number of training batches",  # we log each epoch, not every so many steps
        r"`isinstance\(treespec",  # Lightning's own use of PyTorch
        r"Found \d+ module\(s\) in eval mode",  # a frozen backbone is
    ):
        warnings.filterwarnings("ignore", message=notice)


def build_loggers(config: DictConfig, folder: Path, resume_step: int | None) -> list[Logger]:
    """Return the loggers: CSV always, and wandb unless it is disabled."""
    loggers: list[Logger] = [MetricsLog(folder, resume_step)]
    mode = OmegaConf.select(config, "logger.wandb.mode")
    require_known("logger.wandb.mode", mode, _WANDB_MODES)
    if mode != "disabled":
        from ranet.cli.wandb_log import WandbLog  # which takes a second

        loggers.append(WandbLog(config, folder))
    return loggers
