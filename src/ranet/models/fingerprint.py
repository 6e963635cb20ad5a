"""Which network it is: one short text that changes with every weight, and with whatever else changes an answer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

# Settings of modules that decide how a network learns or in which order it computes, but never what it answers.
_WITHOUT_EFFECT = frozenset({"training", "momentum", "inplace", "detach", "lazy"})


def network_fingerprint(network: nn.Module, recipe: Mapping[str, Any] | None = None, *, weights: bool = True) -> str:
    """Sixteen hexadecimal digits that identify what a network computes.

    They are the start of the sha256 of every entry of the state dict and every buffer (name, type, shape and bytes) and
    of the structure: name, class and settings of every module, because strides, for instance, leave no trace in the
    shapes of the weights. They are the same on every device and in training and evaluation mode, whatever the layout
    of the tensors in memory; they change with any single weight, batch normalisation statistic or numeric precision.

    Args:
        network: any module. Its settings are the public attributes of its modules that are plain values: numbers,
            texts, and sequences, mappings and dataclasses of them.
        recipe: what else changes the answers and is not to be seen in the modules, as values that JSON can hold.
        weights: false for what networks of the same structure share whatever they have learned, such as their speed.

    Example:
        >>> layer = nn.Linear(2, 1)
        >>> before = network_fingerprint(layer)
        >>> with torch.no_grad():
        ...     _ = layer.bias.add_(1)
        >>> len(before), before == network_fingerprint(layer.eval())
        (16, False)
    """
    digest = hashlib.sha256(_canonical([_structure(network), _plain(recipe)]))
    # Buffers that are not saved (constants of a normalisation, say) compute as much as those that are.
    entries = {**dict(network.named_buffers()), **network.state_dict()}
    for name in sorted(entries):
        value = entries[name]
        if not isinstance(value, Tensor):  # what a module of the user's adds by get_extra_state
            digest.update(_canonical([name, repr(value)]))
            continue
        value = value.detach().cpu().contiguous()
        digest.update(_canonical([name, str(value.dtype), list(value.shape)]))
        if not weights:
            continue
        # Seen as bytes, because NumPy has no bfloat16; flat, because a tensor without dimensions has no such view.
        digest.update(value.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def _structure(network: nn.Module) -> list[Any]:
    """Name, class and settings of every module, in the order of their names."""
    return [
        [
            name,
            type(module).__name__,
            {
                setting: _plain(value)
                for setting, value in vars(module).items()
                if not setting.startswith("_") and setting not in _WITHOUT_EFFECT and _is_plain(value)
            },
        ]
        for name, module in sorted(network.named_modules())
    ]


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(_is_plain(item) for item in value.values())
    if isinstance(value, list | tuple):
        return all(_is_plain(item) for item in value)
    if is_dataclass(value) and not isinstance(value, type):
        return all(_is_plain(getattr(value, field.name)) for field in fields(value))
    return value is None or isinstance(value, bool | int | float | str)


def _plain(value: Any) -> Any:
    """The value as JSON has it: lists and tuples are the same, and so are mappings and dataclasses."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    return value


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True).encode()
