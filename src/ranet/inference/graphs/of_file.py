"""An ONNX file of a classifier as the one stage of a network of one exit."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

from ranet.errors import UserError
from ranet.inference.runtimes.backend import NetworkFacts
from ranet.inference.runtimes.stage_graph import StageGraph
from ranet.inference.stages.fused_stages import FusedStage
from ranet.support.extras import require
from ranet.support.shapes import TensorSpec


class FileGraph:
    """A classifier in an ONNX file from any program (a `GraphSource`).

    Args:
        path: of a graph with one input, float32 images (N, C, H, W), whose first output is the logits (N, classes).
        shape: (C, H, W) of the images; H and W hold where the graph leaves them open.

    Attributes:
        facts: of a network with one exit.
        batch_size: that the graph has fixed; None: any.

    Raises:
        UserError: if the file does not exist, or holds another kind of graph, or onnx is not installed.
    """

    def __init__(self, path: Path, shape: tuple[int, int, int]) -> None:
        self._path = path
        if not path.is_file():
            raise UserError(f"{path} does not exist; give the path of an ONNX file.")
        onnx = require("onnx", "onnx", f"The file {path}")
        try:
            graph = onnx.load(path, load_external_data=False).graph
        except Exception as error:  # protobuf raises errors of its own
            raise UserError(f"{path} is not an ONNX file, or is damaged.") from error
        weights = {weight.name for weight in graph.initializer}
        inputs = [value for value in graph.input if value.name not in weights]
        tensors = [value.type.tensor_type for value in (*inputs, *graph.output[:1])]
        sizes = [[size.dim_value or None for size in tensor.shape.dim] for tensor in tensors]  # None: any
        if len(inputs) != 1 or tensors[0].elem_type != onnx.TensorProto.FLOAT or len(sizes[0]) != 4:
            found = None
        else:
            found = [own or other for own, other in zip(sizes[0][1:], shape, strict=True)]
        if found is None or found[0] != shape[0]:
            raise UserError(f"{path} must have one input, float32 images (N, {shape[0]}, H, W).")
        if len(sizes) != 2 or len(sizes[1]) != 2 or sizes[1][1] is None:
            raise UserError(f"{path} must have logits (N, classes) as its first output, with the number of classes.")
        self.batch_size = sizes[0][0]
        channels, height, width = found
        self._images = TensorSpec(inputs[0].name, (channels, height, width))
        self._logits = graph.output[0].name
        fingerprint = sha256(path.read_bytes()).hexdigest()[:16]
        self.facts = NetworkFacts(1, sizes[1][1], (height, width), True, (0,), fingerprint, channels)

    def graph(self, stage: FusedStage) -> StageGraph:
        """Return the graph of the one stage, as the path of its file."""
        name = self._images.name
        return StageGraph(self._path, (self._images,), (name,), self._logits, (), images=name)
