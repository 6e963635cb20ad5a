"""The input of ranet evaluate and ranet calibrate: a trained network, and the data to measure it on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from ranet.cli.inputs.build import build, build_data, network_options, plain
from ranet.data.module import ImageData
from ranet.data.record import DataRecord
from ranet.data.sets.catalogue import Facts
from ranet.errors import UserError
from ranet.models.checkpoint_files import find_checkpoint, read_checkpoint
from ranet.models.papers.public_checkpoints import load_public_checkpoint
from ranet.models.registry import create_network
from ranet.models.staged import StagedNetwork
from ranet.training.checkpoints import TrainedNetwork, load_trained


def load_network_and_data(config: DictConfig) -> tuple[TrainedNetwork, ImageData]:
    """Load the network of ``checkpoint`` onto the device to use, and its data or those of ``data``.

    Raises:
        UserError: if there is no such checkpoint, or network, checkpoint and data do not fit together.
    """
    if config.model.name is None:
        trained = load_trained(config.checkpoint)
        data = build_data_of(trained, config.data)
    else:
        data, trained = load_public(config)
    if data.num_classes != trained.network.num_classes:
        raise UserError(
            f"The network has {trained.network.num_classes} classes and {data.name} has {data.num_classes}; "
            "evaluate it on the data it was trained for."
        )
    require_channels(trained.network, data.facts, data.name)
    data.size("test")  # so that images that do not fit are refused before anything is written
    trained.network.to(evaluation_device())
    return trained, data


def require_channels(network: StagedNetwork, facts: Facts, name: str) -> None:
    """Raise a UserError unless a network reads images with as many channels as those of a data set."""
    reads = network.image_shape[0]
    if reads != facts.channels:
        raise UserError(
            f"The network reads images with {reads} {'channel' if reads == 1 else 'channels'} and those of {name} have "
            f"{facts.channels}; use data.channels={reads}, or the data that it was trained on."
        )


def build_data_of(trained: TrainedNetwork, overrides: DictConfig) -> ImageData:
    """Return the data of a trained network, with the classes and the held-out images of its training.

    Args:
        trained: the network.
        overrides: the data options of the command, as in `data_as_trained`.

    Raises:
        UserError: if the data have other classes, or it is not known which images were held out.
    """
    chosen_anew = "_target_" in overrides
    data: ImageData = build("data", data_as_trained(overrides, trained.recipe))
    record = DataRecord.from_recipe(trained.recipe)
    if record is not None:
        data.follow(record, chosen_anew)
    elif not chosen_anew:
        raise UserError(
            f"{trained.path} was written by an earlier ranet, which did not record the held-out images; say on which "
            f"data to use it, such as data={data.name}, or train again."
        )
    data.prepare_data()
    return data


def data_as_trained(overrides: DictConfig, recipe: dict[str, Any]) -> DictConfig:
    """Return the data configuration of a training run, with the values that are set now; or the group chosen now.

    The folder of the data is that of the training, whatever the current folder is; if it is gone because the project
    moved as a whole, it is the run's relative path from here.
    """
    if "_target_" in overrides:
        return overrides
    values, trained = plain(overrides), dict(recipe["data"])
    record = DataRecord.from_recipe(recipe)
    if record is not None and record.root is not None and Path(record.root).is_dir():
        trained["root"] = record.root
    # A data set without files has no root to be moved.
    moved = {name: value for name, value in values.items() if value is not None and (name != "root" or name in trained)}
    merged: dict[str, Any] = {**trained, **moved}
    return OmegaConf.create(merged)


def evaluation_device() -> torch.device:
    """Return the first GPU, or the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def load_public(
    config: DictConfig, make_data: Callable[[DictConfig], ImageData] = build_data
) -> tuple[ImageData, TrainedNetwork]:
    """Load a published checkpoint into the network of ``model``; return the data module of ``data`` and the network.

    Args:
        config: with checkpoint, model and data.
        make_data: makes the data module of a configuration; `build_data` reads the images, too.

    Raises:
        UserError: if the checkpoint is of another network, or ``data`` is missing.
    """
    path = find_checkpoint(config.checkpoint)
    if path.suffix != ".safetensors" and "ranet" in read_checkpoint(path):
        raise UserError(f"{path} was written by ranet train and knows its network; remove model=.")
    if "_target_" not in config.data:
        raise UserError(
            "A published checkpoint does not say what it was trained on; add data=cifar10 or another data set."
        )
    data = make_data(config.data)
    options = network_options(config.model, data)
    network: StagedNetwork = create_network(config.model.name, **options)
    load_public_checkpoint(network, path)
    recipe = {
        "network": {"name": config.model.name, "options": options},
        "data": plain(config.data),
    }
    return data, TrainedNetwork(network.eval(), recipe, path, epoch=0)
