"""Check that a network keeps the contract of `StagedNetwork`."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn

from ranet.errors import UserError, first_line
from ranet.models.staged import StagedNetwork, State
from ranet.support.shapes import checked_image_size

_HOW = 'see "Your own network" in the README'


def check_network(network: Any) -> None:
    """Run a copy of a network on two images, and check everything that its methods return.

    Raises:
        UserError: if the network breaks the contract, with what to change.
    """
    check_attributes(network)
    ready, shape, name = copy.deepcopy(network).eval(), (2, *network.image_shape), type(network).__name__
    parameter = next(network.parameters())
    images = torch.linspace(-1, 1, math.prod(shape), device=parameter.device, dtype=parameter.dtype).reshape(shape)
    try:
        with torch.no_grad():
            state = checked_state(ready, "stem", ready.stem(images), 2)
            for k in range(ready.num_exits):
                state = checked_state(ready, "advance", ready.advance(k, state), 2)
                before = [tensor.clone() for tensor in state]
                logits = checked_logits(ready, ready.answer(k, state), 2)
                if not all(torch.equal(*pair) or pair[0].isnan().any() for pair in zip(before, state, strict=True)):
                    raise UserError(
                        f"{name}.answer must not change the state, which the next stage reads; does it have a "
                        f"layer with inplace=True? {_HOW.capitalize()}."
                    )
                state = ready.carry(k, state, logits)
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"{name} cannot run on images {shape}, as its image_size says ({first_line(error)}); {_HOW}."
        ) from error


def check_attributes(network: Any) -> None:
    """Check class and attributes of a network, without running it.

    Raises:
        UserError: if it is not a staged network or an attribute is missing or wrong.
    """
    name = type(network).__name__
    if not isinstance(network, StagedNetwork):
        raise UserError(f"A network must be derived from ranet.StagedNetwork, which {name} is not; {_HOW}.")
    for attribute in ("num_classes", "image_size"):
        if not hasattr(network, attribute):
            raise UserError(
                f"{name} has no attribute {attribute}: begin its __init__ with super().__init__(num_classes, "
                f"image_size); {_HOW}."
            )
    _check_count(name, "num_classes", network.num_classes)
    checked_image_size(network.image_size, f"{name}.image_size")
    heads = getattr(network, "heads", None)
    if heads is not None and not isinstance(heads, nn.ModuleList):
        raise UserError(
            f"{name}.heads must be an nn.ModuleList, not a {type(heads).__name__}, or its weights are neither trained "
            f"nor saved; {_HOW}."
        )
    try:
        exits = network.num_exits
    except AttributeError as error:
        raise UserError(
            f"{name} has no attribute heads: give it an nn.ModuleList with a module for each exit, or set num_exits; "
            f"{_HOW}."
        ) from error
    _check_count(name, "num_exits", exits)
    for part in network.optional_parts:
        try:
            network.get_submodule(part)
        except AttributeError as error:
            raise UserError(f"{name}.optional_parts names {part!r}, and it has no such submodule; {_HOW}.") from error
    if next(network.parameters(), None) is None:
        raise UserError(f"{name} has no parameters; {_HOW}.")


def checked_state(network: StagedNetwork, method: str, state: Any, images: int) -> State:
    """Return a state of `stem` or `advance` for this number of images.

    Raises:
        UserError: if it is not a tuple of floating-point tensors with the images in dimension 0.
    """
    name = f"{type(network).__name__}.{method}"
    right = f"{name} must return a tuple of floating-point tensors, each with the images in dimension 0"
    if not isinstance(state, tuple) or not all(isinstance(tensor, Tensor) for tensor in state):
        kinds = f" of {', '.join(type(each).__name__ for each in state)}" if isinstance(state, tuple | list) else ""
        raise UserError(f"{right}; it returned a {type(state).__name__}{kinds}; {_HOW}.")
    for tensor in state:
        if not tensor.is_floating_point() or tensor.ndim == 0 or len(tensor) != images:
            raise UserError(
                f"{right}; for {images} image{'s' * (images != 1)} it returned one of shape {tuple(tensor.shape)} and "
                f"type {str(tensor.dtype).removeprefix('torch.')}; {_HOW}."
            )
    record = (images, len(network.optional_parts))
    if network.optional_parts and (not state or state[0].shape != record):
        raise UserError(
            f"{name} must return the record of the executed parts {record} as the first tensor of the state, because "
            f"the network has {record[1]} optional_parts; {_HOW}."
        )
    return state


def checked_logits(network: StagedNetwork, logits: Any, images: int) -> Tensor:
    """Return the logits of an exit for this number of images.

    Raises:
        UserError: if they have another type or shape.
    """
    right = (images, network.num_classes)
    if not isinstance(logits, Tensor) or logits.shape != right:
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise UserError(
            f"{type(network).__name__}.answer must return logits (images, num_classes), here {right}; it returned "
            f"{got}; {_HOW}."
        )
    return logits


def _check_count(name: str, attribute: str, value: Any) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise UserError(f"{name}.{attribute} must be an integer of at least 1, not {value!r}; {_HOW}.")
