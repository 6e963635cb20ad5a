"""Checkpoint files: where a run keeps them, and the weights in them, read without running code from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from ranet.errors import UserError

BEST, LAST = "best.ckpt", "last.ckpt"
#: A network that was put together, not trained, in its folder.
NETWORK = "network.ckpt"
#: Prefix of the network's parameters in a checkpoint of ranet train.
_OWN = "network."
_NAMED = 3  # how many tensors a sentence names


def find_checkpoint(run: str | Path) -> Path:
    """Resolve a path to a checkpoint file: the file itself, or in a run folder the best one, else the last.

    Raises:
        UserError: if there is no checkpoint.
    """
    path = Path(run)
    if path.is_file():
        return path
    if not path.is_dir():
        raise UserError(f"There is no run folder or checkpoint file {path}.")
    for name in (f"checkpoints/{BEST}", f"checkpoints/{LAST}", BEST, LAST, NETWORK):
        if (path / name).is_file():
            return path / name
    raise UserError(f"The folder {path} holds no checkpoint; give the folder of a training run, or a checkpoint file.")


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Load the content of a checkpoint file as plain values and tensors on the CPU, without running code from it.

    Args:
        path: a ``.safetensors`` file, or one of ``torch.save``.

    Raises:
        UserError: if the file is not a readable checkpoint.
    """
    try:
        loaded = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except Exception as error:  # bytes that are not a checkpoint can raise anything
        raise UserError(f"{path} is not a checkpoint that can be read ({type(error).__name__}).") from error
    if not isinstance(loaded, dict):
        raise UserError(f"{path} is not a checkpoint: it holds a {type(loaded).__name__}.")
    return loaded


def weights_in(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the weights of the network in the content of a checkpoint.

    Args:
        checkpoint: of ranet train; or a state dictionary, alone or under "state_dict" or "model", as others save it.
            Names may start with "module.".

    Raises:
        UserError: if it holds no state dictionary.
    """
    weights: Any = checkpoint
    for container in ("state_dict", "model"):
        if isinstance(weights.get(container), Mapping):
            weights = weights[container]
    if "ranet" in checkpoint:  # others than the network may have entries
        weights = {name.removeprefix(_OWN): value for name, value in weights.items() if name.startswith(_OWN)}
    if not all(isinstance(value, Tensor) for value in weights.values()):
        raise UserError("A checkpoint must be a dictionary from parameter names to tensors, or hold one as state_dict.")
    return {str(name).removeprefix("module."): value for name, value in weights.items()}


@dataclass(frozen=True)
class Differences:
    """What keeps weights from fitting a network; false if nothing does.

    Attributes:
        missing: names of the tensors that only the network has; counts of batches may be missing.
        unexpected: names that only the weights have.
        shapes: names that both have, with both shapes.
    """

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    shapes: dict[str, str]

    @classmethod
    def between(cls, network: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> Differences:
        """Compare the state dictionary of a network with weights."""
        return cls(
            tuple(name for name in network if name not in weights and not name.endswith("num_batches_tracked")),
            tuple(name for name in weights if name not in network),
            {
                name: f"{name}: {tuple(weights[name].shape)}, the network has {tuple(value.shape)}"
                for name, value in network.items()
                if name in weights and weights[name].shape != value.shape
            },
        )

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.shapes)

    def __str__(self) -> str:
        """Return how many tensors differ, and the first of them, as a part of a sentence."""
        parts = [
            (self.missing, "are missing", "is missing"),
            (self.unexpected, "are unexpected", "is unexpected"),
            ([*self.shapes.values()], "have another shape", "has another shape"),
        ]
        said = [f"{len(each)} {one if len(each) == 1 else many} ({_first(each)})" for each, many, one in parts if each]
        noun = "tensor" if said[0].startswith("1 ") else "tensors"
        return ", ".join([said[0].replace(" ", f" {noun} ", 1), *said[1:]])


def _first(names: Sequence[str]) -> str:
    return "; ".join(names[:_NAMED]) + ("; ..." if len(names) > _NAMED else "")
