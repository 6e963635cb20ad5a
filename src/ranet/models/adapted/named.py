"""Classifiers of torchvision and timm, and any classifier with added exits, by their names, with random weights."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from torch import nn

from ranet.errors import UserError
from ranet.models.adapted.backbone import BackboneWithExits, add_exits
from ranet.models.adapted.single_exit import SingleExit
from ranet.models.registry import create_network, list_networks
from ranet.support.shapes import image_shape


def named_classifier(name: str, num_classes: int, image_size: int | Sequence[int], in_channels: int = 3) -> SingleExit:
    """Return a classifier of torchvision or timm as a network of one exit.

    Args:
        name: as both libraries list it, such as "resnet18".
        num_classes: number of classes.
        image_size: side of the square images in pixels, or their (height, width).
        in_channels: of the images.

    Raises:
        UserError: if there is no such classifier.
    """
    size = image_size if isinstance(image_size, int) else (image_size[0], image_size[1])
    channels, height, width = image_shape(size, in_channels)
    return SingleExit(create_classifier(name, num_classes), num_classes, (height, width), channels)


def named_with_exits(
    backbone: str | None = None,
    at: str | Sequence[str] = "auto",
    head: str = "linear",
    num_exits: int = 4,
    num_classes: int = 10,
    image_size: int | Sequence[int] = 224,
    in_channels: int = 3,
) -> BackboneWithExits:
    """Return a classifier by its name, with added exits.

    Args:
        backbone: name of a network of ranet with one exit, or of one of torchvision or timm.
        at: see `add_exits`.
        head: likewise.
        num_exits: likewise.
        num_classes: number of classes.
        image_size: side of the square images in pixels, or their (height, width).
        in_channels: of the images.

    Raises:
        UserError: if there is no such classifier, or it cannot be cut there.
    """
    if backbone is None:
        raise UserError("Say which network gets exits: model.backbone=NAME, of ranet, torchvision or timm.")
    size = image_size if isinstance(image_size, int) else (image_size[0], image_size[1])
    if backbone in list_networks():
        options = {"num_classes": num_classes, "image_size": image_size, "in_channels": in_channels}
        network: nn.Module = create_network(backbone, **options).eval()
    else:
        network = create_classifier(backbone, num_classes)
    return add_exits(network, at, head, image_shape(size, in_channels), num_exits).train()


def create_classifier(name: str, num_classes: int) -> nn.Module:
    """Return the classifier of this name in torchvision or timm with random weights; nothing is downloaded.

    Raises:
        UserError: if there is none; the message has near matches.
    """
    import torchvision

    known = torchvision.models.list_models(module=torchvision.models)
    if name in known:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # how two of them will initialise their weights one day
            network: nn.Module = torchvision.models.get_model(name, weights=None, num_classes=num_classes)
        return network.eval()
    if find_spec("timm"):
        timm: Any = import_module("timm")
        if timm.is_model(name):
            created: nn.Module = timm.create_model(name, pretrained=False, num_classes=num_classes)
            return created.eval()
        known, where, advice = [*known, *timm.list_models()], "torchvision or timm", "."
    else:
        where, advice = "torchvision", ". Install timm to search its models too: pip install timm."
    near = get_close_matches(name, known, n=3, cutoff=0.6)
    hint = f"; did you mean {' or '.join(near)}?" if near else advice
    raise UserError(f"Unknown network {name!r}: not in {where}{hint}")
