"""States as NumPy arrays, for the runtimes that read ONNX: where their tensors come from, and copies of their rows."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ranet.inference.runtimes.backend import Array, Rows, State
from ranet.inference.runtimes.stage_graph import StageGraph

# The widest vector registers and the lines of the caches have this many bytes.
_ALIGNMENT = 64


class Wiring(NamedTuple):
    """How the tensors of a fused stage are connected.

    Attributes:
        inputs: names of the graph's inputs, each with its position in the state before the stage.
        outputs: names of the graph's outputs that are wanted, the logits first.
        after: for each tensor of the state after the stage, its position among the state before the stage with the
            outputs behind it.
    """

    inputs: tuple[tuple[str, int], ...]
    outputs: tuple[str, ...]
    after: tuple[int, ...]


def wiring(graph: StageGraph) -> Wiring:
    """Return how the tensors of a fused stage are connected.

    Example:
        >>> from ranet.support.shapes import TensorSpec
        >>> a, b, c = (TensorSpec(name, (4,)) for name in "abc")
        >>> wiring(StageGraph(b"", before=(a, b), inputs=("b",), logits="answer", after=(a, c)))
        Wiring(inputs=(('b', 1),), outputs=('answer', 'c'), after=(0, 3))
    """
    before = [spec.name for spec in graph.before]
    after = [spec.name for spec in graph.after]
    # Under inline collaboration the logits are a part of the state as well, and still one output.
    outputs = list(dict.fromkeys([graph.logits, *(name for name in after if name not in before)]))
    places = {name: place for place, name in enumerate([*before, *outputs])}
    return Wiring(
        tuple((name, places[name]) for name in graph.inputs), tuple(outputs), tuple(places[name] for name in after)
    )


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
