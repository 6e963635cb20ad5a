"""What runtimes that read ONNX need to know of a fused stage, wherever its graph comes from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple, Protocol

from ranet.inference.runtimes.backend import NetworkFacts
from ranet.inference.stages.fused_stages import FusedStage
from ranet.support.shapes import TensorSpec

#: The name of the images in the graphs that ranet writes.
IMAGES = "images"


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


def for_runtime(model: Path | bytes) -> str | bytes:
    """Return a model as a runtime takes it: the name of its file, or its bytes where the name is not UTF-8."""
    if isinstance(model, bytes):
        return model
    try:
        return os.fsencode(model).decode()
    except UnicodeDecodeError:
        return model.read_bytes()


class GraphSource(Protocol):
    """Where the graphs of a network's fused stages come from: a network that is here, an exported folder, a file."""

    facts: NetworkFacts

    def graph(self, stage: FusedStage) -> StageGraph:
        """Return the graph of a fused stage; raise a UserError where there is none."""
