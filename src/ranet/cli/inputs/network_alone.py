"""What ranet predict and ranet export start from: a trained network, without the files of its data set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig

from ranet.cli.inputs.build import build, plain
from ranet.cli.inputs.trained import data_as_trained, load_public, require_channels
from ranet.data.record import DataRecord
from ranet.data.sets.catalogue import CATALOGUE
from ranet.errors import UserError, require_known
from ranet.images.preprocessing import Preprocessing
from ranet.training.checkpoints import TrainedNetwork, load_trained


@dataclass(frozen=True)
class NetworkAlone:
    """A trained network, and what is known of its data without reading them.

    Attributes:
        trained: the network, on the CPU, and its recipe.
        preprocessing: how images of any size become what it reads.
        classes: the name of each class in the order of the labels; None where the checkpoint does not say them.
        data: what the checkpoint says of the data that it was trained on (`DataRecord.summary`), or None.
    """

    trained: TrainedNetwork
    preprocessing: Preprocessing
    classes: tuple[str, ...] | None
    data: dict[str, Any] | None


def load_network_alone(config: DictConfig) -> NetworkAlone:
    """The network of ``checkpoint`` and what its recipe, or ``data``, says of the images that it reads.

    The names of the classes are those of the training, or of a published checkpoint those of the catalogue.

    Raises:
        UserError: if there is no such checkpoint, or network, checkpoint and data do not belong together.
    """
    if config.model.name is None:
        trained = load_trained(config.checkpoint)
        data = plain(data_as_trained(config.data, trained.recipe))
    else:
        _, trained = load_public(config, lambda node: build("data", node))
        data = plain(config.data)
    require_known("data set", data.get("name"), CATALOGUE)
    facts = CATALOGUE[data["name"]].chosen(*map(data.get, ("image_size", "channels", "mean", "std")))
    network = trained.network
    if facts.num_classes not in (None, network.num_classes):
        raise UserError(
            f"The network has {network.num_classes} classes and {data['name']} has {facts.num_classes}; name "
            "the data that it was trained on."
        )
    require_channels(network, facts, data["name"])
    record = DataRecord.from_recipe(trained.recipe)
    classes = facts.class_names if record is None else record.classes
    if classes is not None and len(classes) != network.num_classes:  # a network with more classes than its data
        classes = None
    return NetworkAlone(trained, facts.preprocessing, classes, None if record is None else record.summary)
