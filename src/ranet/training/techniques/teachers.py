"""Teachers of one-for-all distillation: the last exit, a frozen network, or the last exit of the first stage."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn

from ranet.errors import UserError, unknown_name
from ranet.models.checkpoint_files import read_checkpoint
from ranet.models.staged import StagedNetwork, State, with_linear_heads
from ranet.training.checkpoints import load_trained

TORCHVISION = "torchvision/"


class Teacher(nn.Module, ABC):
    """A source of logits that the exits of a network learn from."""

    @abstractmethod
    def forward(self, network: StagedNetwork, images: Tensor, logits: Tensor, last_state: State) -> Tensor:
        """Return the teacher's logits (B, C).

        Args:
            network: the network to train.
            images: (B, 3, H, W).
            logits: logits of the network's exits, (K, B, C).
            last_state: the network's state at its last exit.
        """


class LastExit(Teacher):
    """The network's own last exit, at the current step."""

    def forward(self, network: StagedNetwork, images: Tensor, logits: Tensor, last_state: State) -> Tensor:
        """Return the logits of the last exit, detached."""
        return logits[-1].detach()


class FirstStage(Teacher):
    """The last exit of a network with a frozen backbone, as it was before new linear layers were trained.

    The features of the frozen backbone do not change, so only the old last linear layer is kept.

    Args:
        network: the network; its last linear layer is copied.
    """

    def __init__(self, network: StagedNetwork) -> None:
        super().__init__()
        self.linear = copy.deepcopy(with_linear_heads(network).readouts[-1]).requires_grad_(False)

    def forward(self, network: StagedNetwork, images: Tensor, logits: Tensor, last_state: State) -> Tensor:
        """Return the logits of the last exit before the second stage."""
        with torch.no_grad():
            return self.linear(with_linear_heads(network).features(network.num_exits - 1, last_state))


class FrozenNetwork(Teacher):
    """Another network that is not trained: the last exit of a staged network, or a classifier.

    It is not a sub-module, so it is not saved in checkpoints or set to training mode.

    Args:
        network: module that maps images (B, 3, H, W) to logits (B, C), or to those of all exits (K, B, C).
        classes: names of its C classes in order, if known.
    """

    def __init__(self, network: nn.Module, classes: Sequence[str] | None = None) -> None:
        super().__init__()
        self._network = (network.eval().requires_grad_(False),)
        self.classes = None if classes is None else tuple(classes)

    def forward(self, network: StagedNetwork, images: Tensor, logits: Tensor, last_state: State) -> Tensor:
        """Return the logits of the frozen network for the images."""
        (teacher,) = self._network
        teacher.to(images.device)  # only the first batch moves it
        with torch.no_grad():
            if isinstance(teacher, StagedNetwork):
                return teacher.forward_to(images, teacher.num_exits - 1)
            return teacher(images)


def load_teacher(source: str, num_classes: int, shape: Sequence[int], weights: str | None = None) -> FrozenNetwork:
    """Load a frozen network as a teacher.

    Args:
        source: a run folder or checkpoint file of ``ranet train``, or "torchvision/NAME" with the name of a torchvision
            classifier.
        num_classes: required number of classes.
        shape: (C, H, W) of the images.
        weights: for a torchvision classifier, a file with its state dictionary, or the name of its published weights
            (such as "IMAGENET1K_V1"; they are downloaded if they are missing).

    Raises:
        UserError: if the network does not exist, its weights do not fit, or it has another number of classes.
    """
    names = None
    if source.startswith(TORCHVISION):
        network = _torchvision_classifier(source.removeprefix(TORCHVISION), num_classes, weights)
        try:
            with torch.no_grad():
                classes = network(torch.zeros(1, *shape)).shape[-1]
        except (RuntimeError, AssertionError, ValueError) as error:
            raise UserError(f"The teacher {source} cannot read images of shape {tuple(shape)}: {error}") from error
    else:
        if weights is not None:
            raise UserError("teacher_weights is for torchvision's classifiers; a run has its own weights.")
        try:
            trained = load_trained(source)
        except UserError as error:
            raise UserError(
                f"The teacher cannot be loaded: {error} A teacher is last_exit, first_stage, torchvision/NAME, a run "
                "folder or a checkpoint."
            ) from error
        network, classes = trained.network, trained.network.num_classes
        names = trained.recipe.get("record", {}).get("classes")
    if classes != num_classes:
        raise UserError(
            f"The teacher {source} has {classes} classes and the network {num_classes}; both must be trained "
            "for the same classes."
        )
    return FrozenNetwork(network, names)


def _torchvision_classifier(name: str, num_classes: int, weights: str | None) -> nn.Module:
    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        raise unknown_name("classifier of torchvision", name, known)
    if weights is None:
        raise UserError(
            f"A teacher must have trained weights: set teacher_weights to a file with weights of {name}, or to "
            "the name of published ones."
        )
    if not Path(weights).is_file():
        published = torchvision.models.get_model_weights(name).__members__
        if weights not in published:
            raise unknown_name(f"file or published weights of {name}", weights, list(published))
        try:
            return torchvision.models.get_model(name, weights=weights).eval()
        except (OSError, RuntimeError) as error:  # no network, or a damaged file
            raise UserError(f"The weights {weights} of {name} cannot be downloaded: {error}.") from error
    network = torchvision.models.get_model(name, num_classes=num_classes)
    try:
        network.load_state_dict(read_checkpoint(Path(weights)))
    except (RuntimeError, TypeError) as error:
        raise UserError(
            f"The weights in {weights} are not the state dictionary of torchvision's {name} with {num_classes} classes."
        ) from error
    return network.eval()
