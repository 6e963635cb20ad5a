"""The small interface between the early-exit engine and the runtimes that compute."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from ranet.inference.stages.fused_stages import FusedStage
from ranet.support.files import default_cache
from ranet.support.shapes import ImageSize, image_shape

if TYPE_CHECKING:
    import torch

Precision = Literal["float32", "bfloat16"]
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")
#: A larger batch goes through an engine in parts, where the backend itself sets no limit.
LARGEST_BATCH = 64
#: A tensor of a runtime, with the batch in dimension 0: a NumPy array, a PyTorch tensor.
Array = Any
#: What travels from one stage to the next, as in `ranet.StagedNetwork`; before the first stage: the images alone.
State = tuple[Array, ...]
Rows = npt.NDArray[np.intp]


class Runtime(NamedTuple):
    """How a network is to run; the entries are those of `EarlyExitEngine`."""

    backend: str = "auto"
    device: torch.device | str | None = None
    precision: Precision = "float32"
    threads: int | None = None
    batch_sizes: Sequence[int] | None = None
    cache: str | Path | None = None

    @property
    def cache_folder(self) -> Path:
        """The folder of the cache."""
        return default_cache() if self.cache is None else Path(self.cache)


class NetworkFacts(NamedTuple):
    """The properties of a network that the engine knows.

    Attributes:
        num_exits: K.
        num_classes: C.
        image_size: side of the square images in pixels, or their (height, width).
        heads_can_be_skipped: as in `ranet.StagedNetwork`.
        cuts: the exits (from 0) that can end a fused stage, ascending; all of them unless the network is exported.
        fingerprint: of the network and its weights (`ranet.models.network_fingerprint`).
        in_channels: of the images.
        optional_parts: as in `ranet.StagedNetwork`. Where there are some, the first tensor of every state, after the
            last exit as well, is the record (B, P) of what each image has executed.
    """

    num_exits: int
    num_classes: int
    image_size: ImageSize
    heads_can_be_skipped: bool
    cuts: tuple[int, ...]
    fingerprint: str
    in_channels: int = 3
    optional_parts: tuple[str, ...] = ()

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """The shape (C, H, W) of an image."""
        return image_shape(self.image_size, self.in_channels)


class Backend(Protocol):
    """A runtime that computes fused stages, for one thread at a time.

    Attributes:
        name: "torch", "onnxruntime" or "openvino".
        precision: in which it computes, and in which states travel. Logits are always float32.
        device: such as "cpu" or "cuda:0".
        facts: of the network.
        fixed_sizes: the batch sizes that it computes, ascending; None: any. A batch of another size is padded to the
            next of them (`sized`) by rows of any content, which cost time and are ignored.
    """

    name: str
    precision: Precision
    device: str
    facts: NetworkFacts
    fixed_sizes: tuple[int, ...] | None

    def run(self, stage: FusedStage, state: State, rows: int) -> tuple[npt.NDArray[np.float32], State]:
        """Run a stage and return the logits (rows, C) of its exit and the state after it.

        The arrays have ``sized(self, rows)`` rows, or another of the fixed sizes that is no smaller, of which the first
        ``rows`` count. After the last exit the state is (), or of a network with optional parts their record alone.
        Both results are valid until the same stage runs again: copy rows of them into a buffer to keep them longer. It
        is fastest where a stage gets the same arrays again and again.
        """

    def buffer(self, stage: FusedStage, size: int) -> State:
        """Return new arrays, of any content, with room for ``size`` rows of the state that a stage starts from."""

    def copy_rows(self, source: State, rows: Rows | None, target: State, at: int) -> None:
        """Copy rows of a state (None: all) into rows ``at``, at + 1, ... of a buffer, in its precision and place.

        Images are copied in the same way, from (array,).
        """


def executed_parts(facts: NetworkFacts, after: State, rows: int) -> npt.NDArray[np.bool_]:
    """Return (rows, P) which optional parts the images of a batch have executed, by the state after a stage."""
    if not facts.optional_parts:
        return np.empty((rows, 0), dtype=np.bool_)
    record = after[0][:rows]
    if hasattr(record, "cpu"):  # a tensor of PyTorch
        record = record.float().cpu().numpy()
    executed: npt.NDArray[np.bool_] = record > 0.5
    return executed


def sized(backend: Backend, rows: int) -> int:
    """Return the size of the batch that a backend computes for this number of rows: the number itself, or padded.

    Example:
        >>> from types import SimpleNamespace
        >>> sized(SimpleNamespace(fixed_sizes=(1, 8, 64)), 9), sized(SimpleNamespace(fixed_sizes=None), 9)
        (64, 9)
    """
    if backend.fixed_sizes is None:
        return rows
    return next(size for size in backend.fixed_sizes if size >= rows)


def largest_size(sizes: Sequence[int] | None, default: int) -> int:
    """Return the largest of the batch sizes of a backend, or a default where it takes any."""
    return default if sizes is None else sizes[-1]
