"""Loading a network, with its recipe, from a run folder or checkpoint file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ranet.errors import UserError
from ranet.models.adapted.cascade import Cascade
from ranet.models.adapted.named import named_classifier
from ranet.models.checkpoint_files import find_checkpoint, read_checkpoint, weights_in
from ranet.models.collaboration import InlineCollaboration
from ranet.models.registry import create_network
from ranet.models.staged import StagedNetwork
from ranet.support.files import written_whole


@dataclass(frozen=True)
class TrainedNetwork:
    """A network with trained weights, and the recipe of its training.

    Attributes:
        network: the network, in evaluation mode on the CPU.
        recipe: recipe that training stored: "network" (name, options and, if its exits collaborate, "collaboration"
            with the arguments of ``InlineCollaboration``) and "data" (the arguments of its data module).
        path: the checkpoint file, or the name of published weights.
        epoch: number of finished epochs.
    """

    network: StagedNetwork
    recipe: dict[str, Any]
    path: Path
    epoch: int


def build_network(recipe: Mapping[str, Any]) -> StagedNetwork:
    """Return the network that a recipe describes, with fresh weights.

    Args:
        recipe: "name" and "options" for ``create_network``, and, for a network whose exits collaborate,
            "collaboration" with the arguments of ``InlineCollaboration``. Of a cascade: "members" (their recipes) and
            "options" for ``Cascade``. Of a network of torchvision or timm: "name", "options" and "classifier": true.

    Raises:
        UserError: if no network can be built from the recipe.
    """
    if "members" in recipe:
        return Cascade([build_network(member) for member in recipe["members"]], **recipe["options"])
    if recipe.get("classifier"):
        return named_classifier(recipe["name"], **recipe["options"])
    network = create_network(recipe["name"], **recipe["options"])
    collaboration = recipe.get("collaboration")
    return network if collaboration is None else InlineCollaboration(network, **collaboration)


def save_network(network: StagedNetwork, recipe: Mapping[str, Any], path: str | Path) -> None:
    """Write a network that was not trained here as a checkpoint that `load_trained` reads.

    Args:
        network: with its weights.
        recipe: as in `TrainedNetwork`; its "network" is what `build_network` takes.
        path: of the file, which is written whole or not at all.
    """
    weights = {f"network.{name}": value.cpu() for name, value in network.state_dict().items()}
    with written_whole(path) as partial, partial.open("wb") as file:
        torch.save({"state_dict": weights, "ranet": dict(recipe), "epoch": -1}, file)


def load_trained(run: str | Path) -> TrainedNetwork:
    """Build the network of a training run and load its weights.

    Args:
        run: a run folder (its best checkpoint, else its last) or a checkpoint file.

    Raises:
        UserError: if there is no such checkpoint, or it was not written by ``ranet train``.
    """
    path = find_checkpoint(run)
    checkpoint = read_checkpoint(path)
    recipe = checkpoint.get("ranet")
    if not isinstance(recipe, dict):
        raise UserError(
            f"{path} was not written by ranet train; for a published checkpoint use model=... and data=... too."
        )
    network = build_network(recipe["network"])
    try:
        network.load_state_dict(weights_in(checkpoint))
    except RuntimeError as error:
        raise UserError(f"The weights in {path} are of another network than its options.") from error
    return TrainedNetwork(network.eval(), recipe, path, int(checkpoint["epoch"]) + 1)
