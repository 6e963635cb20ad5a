"""Loading weights from a file, a run or a published name into any network."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor, nn

from ranet.errors import UserError
from ranet.models.adapted.backbone import BackboneWithExits
from ranet.models.checkpoint_files import Differences, find_checkpoint, read_checkpoint, weights_in
from ranet.models.collaboration import InlineCollaboration
from ranet.models.papers.public_checkpoints import our_name
from ranet.models.published_weights import published_weights

Network = TypeVar("Network", bound=nn.Module)
Weights = Mapping[str, Tensor]

_FILES = (".safetensors", ".pth", ".pt", ".th", ".tar", ".ckpt", ".bin")
_log = logging.getLogger(__name__)


def load_weights(network: Network, source: str | Path | Mapping[str, Any]) -> Network:
    """Load weights into a network, in place.

    All weights must fit, and none may be missing. Names may have another common prefix than in the network, or be those
    of the public code of MSDNet, RANet or the CIFAR ResNets. Exits that collaborate may get the weights of a network
    whose exits do not: the links between them stay as they are. A network with added exits may get the weights of
    its backbone: the heads stay as they are.

    Args:
        network: any module.
        source: a ``.safetensors`` file, or a state dictionary in one that ``torch.load`` reads without running code
            from it; a run folder or checkpoint of ``ranet train``; a published name, such as "resnet50",
            "resnet50.IMAGENET1K_V2" (torchvision) or "resnet50.a1_in1k" (timm), whose weights are downloaded if they
            are missing; or a state dictionary.

    Returns:
        The network.

    Raises:
        UserError: if there are no such weights, or they do not fit; then the network is unchanged.

    Example:
        >>> network, other = nn.Linear(3, 2), nn.Linear(3, 2)
        >>> load_weights(network, {"module.weight": other.weight, "module.bias": other.bias}).weight.equal(other.weight)
        True
        >>> load_weights(network, {"weight": other.weight, "gain": other.bias})
        Traceback (most recent call last):
        ranet.errors.UserError: The given weights do not fit this Linear: 1 tensor is missing (bias), 1 is unexpected (gain); use weights of this network, built with the same options.
    """  # noqa: E501
    _load(network, _read(source, network), _name(source), any_classes=False)
    return network


def start_from_weights(network: nn.Module, source: str | Path | Mapping[str, Any]) -> list[str]:
    """Load weights as `load_weights` does, where they may be for another number of classes.

    Last linear layers for another number of classes are not loaded, with a notice in the log.

    Returns:
        The paths of these layers in the network.
    """
    return _load(network, _read(source, network), _name(source), any_classes=True)


def _name(source: str | Path | Mapping[str, Any]) -> str:
    return "given weights" if isinstance(source, Mapping) else f"weights {source}"


def _read(source: str | Path | Mapping[str, Any], network: nn.Module) -> dict[str, Tensor]:
    if isinstance(source, Mapping):
        return weights_in(source)
    path = Path(source)
    if path.exists():
        return weights_in(read_checkpoint(find_checkpoint(path)))
    if isinstance(source, Path) or path.suffix.lower() in _FILES or len(path.parts) > 1:
        raise UserError(f"There is no file or run folder {path}.")
    return published_weights(source, network)


def _load(network: nn.Module, weights: Weights, name: str, any_classes: bool) -> list[str]:
    """Load the weights, and return the paths of the layers that are left out."""
    wrappers = (InlineCollaboration, "links.", "network"), (BackboneWithExits, "backbone.", "backbone")
    for wrapper, prefix, inner in wrappers:
        if isinstance(network, wrapper) and not any(prefix in key for key in weights):
            paths = _load(network.get_submodule(inner), weights, name, any_classes)
            return [f"{inner}.{path}" for path in paths]
    ours = {key: value for key, value in network.state_dict().items() if isinstance(value, Tensor)}
    theirs = _with_our_names(weights, network, ours)
    fresh = _layers_of_other_classes(network, theirs) if any_classes else {}
    kept = {f"{layer}.{leaf}" for layer in fresh for leaf in ("weight", "bias")}
    fitting = {key: value for key, value in theirs.items() if key not in kept}
    differences = Differences.between({key: value for key, value in ours.items() if key not in kept}, fitting)
    if differences:
        raise UserError(
            f"The {name} do not fit this {type(network).__name__}: {differences}; use weights of this network, built "
            "with the same options."
        )
    network.load_state_dict(fitting, strict=False)
    if fresh:
        own = network.get_submodule(next(iter(fresh))).out_features
        _log.info(
            "The %s are for %d classes and the network has %d: %s starts with new weights.",
            name, next(iter(fresh.values())), own, ", ".join(fresh),
        )  # fmt: skip
    return [*fresh]


def _with_our_names(theirs: Weights, network: nn.Module, ours: Weights) -> Weights:
    """Return the weights under those names of which the network has the most."""
    variants: list[Weights] = [theirs, {our_name(network, key): value for key, value in theirs.items()}]
    while prefix := _common_prefix(variants[-1]):
        variants.append({key.removeprefix(prefix): value for key, value in variants[-1].items()})
        variants.append({our_name(network, key): value for key, value in variants[-1].items()})
    if prefix := _common_prefix(ours):  # a wrapper's
        variants += [{prefix + key: value for key, value in variant.items()} for variant in variants]
    return max(variants, key=lambda variant: len(variant.keys() & ours.keys()))


def _common_prefix(weights: Weights) -> str:
    """Return the first part of all names with its dot; empty if they differ or have only one part."""
    first = {key.partition(".")[0] + "." if "." in key else "" for key in weights}
    return first.pop() if len(first) == 1 else ""


def _layers_of_other_classes(network: nn.Module, theirs: Weights) -> dict[str, int]:
    """Return the last linear layers that the weights have for another number of classes, with that number."""
    linear = {name: module for name, module in network.named_modules() if isinstance(module, nn.Linear)}
    classes = getattr(network, "num_classes", None)
    if classes is None:  # a classifier of torchvision
        linear = dict([*linear.items()][-1:])
    return {
        name: len(weight)
        for name, layer in linear.items()
        if (weight := theirs.get(f"{name}.weight")) is not None
        and classes in (None, layer.out_features)
        and len(weight) != layer.out_features
        and weight.shape[1:] == layer.weight.shape[1:]
    }
