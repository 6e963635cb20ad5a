"""What runtimes that read ONNX share: a fused stage as a graph, wherever it comes from, and states in NumPy."""

from __future__ import annotations

import os
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from ranet.inference.runtimes.backend import Array, NetworkFacts, Rows, State
from ranet.inference.stages.fused_stages import FusedStage
from ranet.support.shapes import TensorSpec

#: The name of the images in the graphs that ranet writes.
IMAGES = "images"
# The widest vector registers and the lines of the caches have this many bytes.
_ALIGNMENT = 64


class StageGraph(NamedTuple):
    """A fused stage as an ONNX graph with any batch size.

    Attributes:
        model: the file, or its bytes.
        before: the state that the stage starts from, in order; the images alone for stages from the first.
        inputs: names of the graph's inputs, some of ``before``; the others of them pass the stage by.
        logits: name of the output with the logits (B, C) of the stage's exit.
        after: the state after the stage, in order: outputs of the graph, and tensors of ``before`` that pass by. After
            the last exit it is empty, or the record of optional parts alone. Where heads cannot be skipped its last
            tensor is the logits.
        images: name of the images, where they are among ``before``.
    """

    model: Path | bytes
    before: tuple[TensorSpec, ...]
    inputs: tuple[str, ...]
    logits: str
    after: tuple[TensorSpec, ...]
    images: str = IMAGES

    @property
    def outputs(self) -> list[str]:
        """The names of the graph's outputs, the logits first; they may be a part of the state as well."""
        before = {spec.name for spec in self.before}
        return list(dict.fromkeys([self.logits, *(spec.name for spec in self.after if spec.name not in before)]))


class GraphSource(Protocol):
    """Where the graphs of a network's fused stages come from: a network that is here, an exported folder, a file."""

    facts: NetworkFacts

    def graph(self, stage: FusedStage) -> StageGraph:
        """Return the graph of a fused stage; raise a UserError where there is none."""


def for_runtime(model: Path | bytes) -> str | bytes:
    """Return a model as a runtime takes it: the name of its file, or its bytes where the name is not UTF-8."""
    if isinstance(model, bytes):
        return model
    try:
        return os.fsencode(model).decode()
    except UnicodeDecodeError:
        return model.read_bytes()


def zeros(shape: Sequence[int], dtype: npt.DTypeLike) -> Array:
    """Return an array of zeros that starts where the vector units of a CPU like to read.

    Example:
        >>> array = zeros((3, 5), np.float32)
        >>> array.shape, array.ctypes.data % 64
        ((3, 5), 0)
    """
    length = prod(shape) * np.dtype(dtype).itemsize
    memory = np.zeros(length + _ALIGNMENT, dtype=np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + length].view(dtype).reshape(shape)


def copy_rows(source: State, rows: Rows | None, target: State, at: int) -> None:
    """Copy rows of a state into a buffer (`Backend.copy_rows`).

    Example:
        >>> buffer = np.zeros((4, 2), np.float32)
        >>> copy_rows((np.array([[1, 2], [3, 4]]),), np.array([1, 0]), (buffer,), at=2)
        >>> buffer.tolist()
        [[0.0, 0.0], [0.0, 0.0], [3.0, 4.0], [1.0, 2.0]]
    """
    for whole, buffer in zip(source, target, strict=True):
        if rows is None:
            buffer[at : at + len(whole)] = whole
        elif whole.dtype == buffer.dtype:
            # "clip", because NumPy would otherwise copy twice, to leave the target whole after a wrong index.
            whole.take(rows, axis=0, out=buffer[at : at + len(rows)], mode="clip")
        else:
            buffer[at : at + len(rows)] = whole[rows]
