"""The input of ranet predict and ranet export: a trained network, without the files of its data set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig

from ranet.cli.inputs.build import build, plain
from ranet.cli.inputs.trained import data_as_trained, load_public, require_channels
from ranet.data.record import DataRecord
from ranet.data.sets.catalogue import CATALOGUE
from ranet.errors import UserError, require_known
from ranet.images.preprocessing import Prepares
from ranet.training.checkpoints import TrainedNetwork, load_trained


@dataclass(frozen=True)
class NetworkAlone:
    """A trained network, and the facts about its data that need no files.

    Attributes:
        trained: the network, on the CPU, and its recipe.
        preprocessing: the transform of images of any size.
        classes: the name of each class in the order of the labels; None if the checkpoint does not hold them.
        data: the record of the training data in the checkpoint (`DataRecord.summary`), or None.
    """

    trained: TrainedNetwork
    preprocessing: Prepares
    classes: tuple[str, ...] | None
    data: dict[str, Any] | None


def load_network_alone(config: DictConfig) -> NetworkAlone:
    """Load the network of ``checkpoint``, with the preprocessing of its recipe or of ``data``.

    The names of the classes are those of the training; for a published checkpoint, those of the catalogue.

    Raises:
        UserError: if there is no such checkpoint, or network, checkpoint and data do not fit together.
    """
    if config.model.name is None:
        trained = load_trained(config.checkpoint)
        data = plain(data_as_trained(config.data, trained.recipe))
    else:
        _, trained = load_public(config, lambda node: build("data", node))
        data = plain(config.data)
    require_known("data set", data.get("name"), CATALOGUE)
    facts = CATALOGUE[data["name"]].chosen(*map(data.get, ("image_size", "channels", "mean", "std", "preprocessing")))
    network = trained.network
    if facts.num_classes not in (None, network.num_classes):
        raise UserError(
            f"The network has {network.num_classes} classes and {data['name']} has {facts.num_classes}; use "
            "the data that it was trained on."
        )
    require_channels(network, facts, data["name"])
    record = DataRecord.from_recipe(trained.recipe)
    classes = facts.class_names if record is None else record.classes
    if classes is not None and len(classes) != network.num_classes:  # a network with more classes than its data
        classes = None
    return NetworkAlone(trained, facts.preprocessing, classes, None if record is None else record.summary)
