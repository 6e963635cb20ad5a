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
    """A classifier in an ONNX file from any program (a `GraphSource`), as a network of one exit.

    Its graph has one input, float32 images (N, C, H, W), and the first output is the logits (N, classes). Where it
    leaves H and W open, those of ``shape`` hold. It may fix a ``batch_size``, else that is None.

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
        channels = shape[0]
        images = len(inputs) == 1 and tensors[0].elem_type == onnx.TensorProto.FLOAT and len(sizes[0]) == 4
        if not images or sizes[0][1] not in (None, channels):
            raise UserError(f"{path} must have one input, float32 images (N, {channels}, H, W).")
        if len(sizes) != 2 or len(sizes[1]) != 2 or sizes[1][1] is None:
            raise UserError(f"{path} must have logits (N, classes) as its first output, with the number of classes.")
        self.batch_size = sizes[0][0]
        height, width = sizes[0][2] or shape[1], sizes[0][3] or shape[2]
        self._images = TensorSpec(inputs[0].name, (channels, height, width))
        self._logits = graph.output[0].name
        fingerprint = sha256(path.read_bytes()).hexdigest()[:16]
        self.facts = NetworkFacts(1, sizes[1][1], (height, width), True, (0,), fingerprint, channels)

    def graph(self, stage: FusedStage) -> StageGraph:
        """Return the graph of the one stage, as the path of its file."""
        name = self._images.name
        return StageGraph(self._path, (self._images,), (name,), self._logits, (), images=name)
