"""The fingerprint of a network: a short str that changes with every weight and everything else that changes answers."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule

# Settings of modules that decide how a network learns or in which order it computes, but never what it answers.
_WITHOUT_EFFECT = frozenset({"training", "momentum", "inplace", "detach", "lazy"})


def network_fingerprint(network: nn.Module, recipe: Mapping[str, Any] | None = None, *, weights: bool = True) -> str:
    """Return sixteen hexadecimal digits that identify what a network computes.

    They are the start of the sha256 of every entry of the state dict and every buffer (name, type, shape and bytes) and
    of the structure: name, class and settings of every module, because strides, for instance, leave no trace in the
    shapes of the weights; and the code of modules that neither PyTorch nor ranet defines, because it may connect the
    same layers in two ways. They are the same on every device and in training and evaluation mode, whatever the layout
    of the tensors in memory; they change with any single weight, batch normalisation statistic or numeric precision.

    Args:
        network: any module. Its settings are the public attributes of its modules that are functions, types or plain
            values: numbers, strings, and sequences, mappings and dataclasses of them.
        recipe: JSON values that change the answers and are not visible in the modules.
        weights: false for a fingerprint of the structure alone, which decides the speed, for instance.

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
    """List name, class, settings and, for classes of others, code of every module, in the order of their names."""
    found: list[Any] = []
    for name, module in sorted(network.named_modules()):
        if isinstance(module, GraphModule):  # its class gets another name in each copy
            found.append([name, "GraphModule", module.code])
            continue
        settings = {
            setting: _plain(value) if _is_plain(value) else _named(value)
            for setting, value in vars(module).items()
            if not setting.startswith("_") and setting not in _WITHOUT_EFFECT and (_is_plain(value) or _named(value))
        }
        code = _own_code(type(module))
        found.append([name, type(module).__name__, settings, *([code] if code else [])])
    return found


def _own_code(kind: type) -> list[str]:
    """Return the code of the methods of a class and its bases, except those of PyTorch and ranet."""
    methods = [
        method.fget if isinstance(method, property) else method
        for base in kind.__mro__
        if not _is_known(base.__module__)
        for _, method in sorted(vars(base).items())
    ]
    return [_code(method) for method in methods if inspect.isfunction(method)]


def _named(value: Any) -> list[str]:
    """Return the name of a function or a type, and its code if others define it; nothing for other values."""
    if isinstance(value, partial):
        return [*_named(value.func), repr((value.args, sorted(value.keywords.items())))]
    if isinstance(value, torch.dtype | Enum):
        return [str(value)]
    if inspect.isroutine(value) or inspect.isclass(value):
        where = value.__module__ or ""
        own = inspect.isfunction(value) and not _is_known(where)
        return [f"{where}.{value.__qualname__}", *([_code(value)] if own else [])]
    return []


def _is_known(module: str) -> bool:
    return module.partition(".")[0] in ("torch", "ranet", "builtins", "abc", "typing")


def _code(function: Any) -> str:
    if function.__name__ != "<lambda>":  # several can stand in one line
        try:
            return inspect.getsource(function)
        except (OSError, TypeError):  # it was typed into a console
            pass
    code = function.__code__  # differs between versions of Python
    return repr((code.co_code, code.co_names, code.co_consts))


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(_is_plain(item) for item in value.values())
    if isinstance(value, list | tuple):
        return all(_is_plain(item) for item in value)
    if is_dataclass(value) and not isinstance(value, type):
        return all(_is_plain(getattr(value, field.name)) for field in fields(value))
    return value is None or isinstance(value, bool | int | float | str)


def _plain(value: Any) -> Any:
    """Return the value in JSON's types: tuples become lists, mappings and dataclasses become dictionaries."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    return value


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True).encode()
