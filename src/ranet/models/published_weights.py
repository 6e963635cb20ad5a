"""The weights that torchvision and timm publish, by name."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torchvision
from torch import Tensor, nn

from ranet.errors import UserError, first_line, unknown_name


def published_preprocessing(network: nn.Module, name: str) -> dict[str, Any]:
    """Return how the package of a classifier prepares its images.

    Args:
        network: of timm, or of torchvision.
        name: published name of its weights, as for `published_weights`, or the path of a file.

    Returns:
        Options of `ranet.images.preprocessing.Preprocessing`; empty if the package does not say, as for files with
        weights of torchvision.
    """
    known = getattr(network, "pretrained_cfg", None)
    if known:
        height, width = known["input_size"][1:]
        resize = [int(side / known["crop_pct"]) for side in (height, width)]
        options = {"image_size": [height, width], "resize": resize}
        return {**options, **{each: known[each] for each in ("mean", "std", "interpolation")}}
    architecture, _, tag = name.partition(".")
    if architecture not in torchvision.models.list_models(module=torchvision.models):
        return {}
    members: Any = torchvision.models.get_model_weights(architecture)
    if tag and tag not in members.__members__:
        return {}
    how = (members[tag] if tag else members.DEFAULT).transforms()
    return {
        "image_size": how.crop_size[0],
        "resize": how.resize_size[0],
        "mean": how.mean,
        "std": how.std,
        "interpolation": how.interpolation.value,
    }


def published_weights(name: str, network: nn.Module) -> dict[str, Tensor]:
    """Return published weights; they are downloaded if they are not yet on this machine.

    Args:
        name: of a classifier of torchvision or timm: alone ("resnet50": the package's default weights) or with the name
            of its weights ("resnet50.IMAGENET1K_V2", "resnet50.a1_in1k").
        network: the network that they are for. Where both packages have weights of this name, one of timm gets timm's.

    Raises:
        UserError: if there are no such weights, or they cannot be downloaded.
    """
    architecture, _, tag = name.partition(".")
    members: Any = {}
    classifiers = torchvision.models.list_models(module=torchvision.models)
    if architecture in classifiers:
        members = torchvision.models.get_model_weights(architecture)
    in_torchvision = architecture in classifiers and (not tag or tag in members.__members__)
    timm: Any = import_module("timm") if find_spec("timm") else None
    in_timm = timm is not None and timm.is_model_pretrained(name)
    if not in_torchvision and not in_timm:
        known = [*classifiers, *(f"{architecture}.{member.name}" for member in members)]
        if timm is not None:
            known += timm.list_pretrained()
        error = unknown_name("file, run folder or published weights", name, known)
        raise error if timm else UserError(f"{error} timm is not installed, so its names are unknown here.")
    use_timm = in_timm and (not in_torchvision or hasattr(network, "pretrained_cfg"))
    try:
        if use_timm:
            return dict(timm.create_model(name, pretrained=True).state_dict())
        weights = members[tag] if tag else members.DEFAULT
        return dict(weights.get_state_dict(progress=False, check_hash=True, weights_only=True))
    except Exception as error:  # both download with clients whose errors have no common class
        raise UserError(
            f"The weights {name} of {'timm' if use_timm else 'torchvision'} cannot be downloaded "
            f"({first_line(error)}); check the connection, or give a file with them."
        ) from error
