"""The backend of OpenVINO: float32 or bfloat16 on the CPU, one compiled graph for each batch size of a ladder."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from ranet.errors import UserError
from ranet.inference.runtimes.backend import Array, Precision, State
from ranet.inference.runtimes.stage_graph import GraphSource, StageGraph, copy_rows, for_runtime, zeros
from ranet.inference.stages.fused_stages import FusedStage
from ranet.support.extras import require
from ranet.support.hardware import compute_threads
from ranet.support.shapes import TensorSpec

#: Batch sizes for which stages are compiled.
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)


class OpenVinoBackend:
    """Fused stages in OpenVINO (a `Backend`).

    A state crosses a cut as the plugin for CPUs computes: its maps lie channels last, (B, H, W, C), in the precision of
    the computation, and the memory that one stage writes is the memory that the next one reads. NumPy has no bfloat16,
    so those maps are uint16 arrays of the same bits. Images (B, 3, H, W), vectors and logits are float32.

    A graph of one batch size takes a tenth of a second to compile and runs up to a third faster than one of any size,
    so each fused stage is compiled for each of the batch sizes when it is first used. A UserError says if
    OpenVINO is not installed, or the CPU does not compute in bfloat16.
    """

    name = "openvino"
    device = "cpu"
    fixed_sizes: tuple[int, ...] | None
    copy_rows = staticmethod(copy_rows)

    def __init__(
        self,
        source: GraphSource,
        threads: int | None = None,
        precision: Precision = "float32",
        batch_sizes: Sequence[int] = BATCH_SIZES,
    ) -> None:
        self._core = openvino_core()
        self._openvino = require("openvino", "openvino", "The openvino backend")
        if precision == "bfloat16" and "BF16" not in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise UserError("This CPU does not compute in bfloat16; use precision=float32.")
        self.facts = source.facts
        self.precision: Precision = precision
        self.fixed_sizes = tuple(sorted(set(batch_sizes)))
        self._source = source
        self._options = compile_options(precision, threads)
        self._read: dict[FusedStage, tuple[StageGraph, Any]] = {}
        self._compiled: dict[tuple[FusedStage, int], _CompiledStage] = {}

    def run(self, stage: FusedStage, state: State, rows: int) -> tuple[npt.NDArray[np.float32], State]:
        """Run a stage; see `Backend.run`. It returns the same arrays each time."""
        size = len(state[0])
        compiled = self._compiled.get((stage, size)) or self._compile(stage, size)
        if state is not compiled.state:
            compiled.read_from(state)
        compiled.infer(share_outputs=True)  # else they are copied once more
        return compiled.logits[:rows], compiled.after

    def buffer(self, stage: FusedStage, size: int) -> State:
        """Return new arrays of zeros for the state that a stage starts from."""
        graph = self._graph(stage)[0]
        return tuple(self._zeros(spec, size, spec.name == graph.images) for spec in graph.before)

    def _zeros(self, spec: TensorSpec, size: int, are_images: bool = False) -> Array:
        if are_images or len(spec.shape) != 3:
            return zeros((size, *spec.shape), np.float32)
        channels, *edges = spec.shape
        return zeros((size, *edges, channels), np.uint16 if self.precision == "bfloat16" else np.float32)

    def _graph(self, stage: FusedStage) -> tuple[StageGraph, Any]:
        """Return the graph of a stage, with any batch size, and what OpenVINO has read of it."""
        if stage not in self._read:
            graph = self._source.graph(stage)
            model = for_runtime(graph.model)
            try:
                self._read[stage] = graph._replace(model=b""), self._core.read_model(model)
            except RuntimeError as error:
                if isinstance(graph.model, Path):
                    raise UserError(f"{graph.model} is not an ONNX graph that can be read; export it again.") from error
                raise
        return self._read[stage]

    def _compile(self, stage: FusedStage, size: int) -> _CompiledStage:
        graph, model = self._graph(stage)
        model = model.clone()
        model.reshape({spec.name: [size, *spec.shape] for spec in graph.before if spec.name in graph.inputs})
        maps = {spec.name for spec in (*graph.before, *graph.after) if len(spec.shape) == 3} - {graph.images}
        model = self._channels_last(model, maps)
        request = self._core.compile_model(model, "CPU", self._options).create_infer_request()
        specs = {
            graph.logits: TensorSpec(graph.logits, (self.facts.num_classes,)),
            **{spec.name: spec for spec in graph.after},
        }
        outputs = {name: self._zeros(specs[name], size) for name in graph.outputs}
        self._compiled[stage, size] = _CompiledStage(request, graph, outputs, self._tensor)
        return self._compiled[stage, size]

    def _channels_last(self, model: Any, maps: set[str]) -> Any:
        """Return the model, with maps as inputs and outputs laid out as in states."""
        steps = self._openvino.preprocess.PrePostProcessor(model)
        for ports, step in ((model.inputs, steps.input), (model.outputs, steps.output)):
            for place, port in enumerate(ports):
                if maps.isdisjoint(port.get_names()):
                    continue
                step(place).model().set_layout(self._openvino.Layout("NCHW"))
                outside = step(place).tensor()
                outside.set_layout(self._openvino.Layout("NHWC"))
                if self.precision == "bfloat16":
                    outside.set_element_type(self._openvino.Type.bf16)
        return steps.build()

    def _tensor(self, array: Array) -> Any:
        """Return a tensor of OpenVINO in the memory of an array."""
        assert array.flags.c_contiguous
        kind = self._openvino.Type.bf16 if array.dtype == np.uint16 else self._openvino.Type.f32
        return self._openvino.Tensor(array, self._openvino.Shape(array.shape), kind)


class _CompiledStage:
    """A fused stage compiled for one batch size, with the arrays that it reads (``state``) and writes.

    Each run (``infer``) writes the logits (size, C) and the state after the stage, but for arrays that pass it by.
    """

    def __init__(self, request: Any, graph: StageGraph, outputs: dict[str, Array], tensor: Any) -> None:
        self.state: State = ()
        self.after: State = ()
        self.logits = outputs[graph.logits]
        self.infer = request.infer
        self._request = request
        self._graph = graph
        self._outputs = outputs
        self._tensor = tensor
        self._known: dict[str, Array] = {}
        for name, array in outputs.items():
            request.set_tensor(name, tensor(array))

    def read_from(self, state: State) -> None:
        """Read from these arrays from now on."""
        tensors = {spec.name: array for spec, array in zip(self._graph.before, state, strict=True)}
        for name in self._graph.inputs:
            if tensors[name] is not self._known.get(name):  # telling the runtime takes longer than looking
                self._request.set_tensor(name, self._tensor(tensors[name]))
        self.state, self._known = state, tensors
        tensors = {**tensors, **self._outputs}
        self.after = tuple(tensors[spec.name] for spec in self._graph.after)


def openvino_core() -> Any:
    """Return the openvino.Core of this process, which lives as long as the process.

    The plugin for CPUs gives the thread that loads it another stack for signals, and takes it back with its Core. Of
    two Cores that end in the order in which they were made, the last brings back the stack of the first, which is gone:
    the next signal (a child that ends, Ctrl-C) then kills the process with a segmentation fault (OpenVINO 2026.4).
    """
    with _one_at_a_time:
        return _core()


_one_at_a_time = Lock()


@cache
def _core() -> Any:
    return require("openvino", "openvino", "The openvino backend").Core()


def compile_options(precision: Precision, threads: int | None = None) -> dict[str, str]:
    """Return how OpenVINO compiles a graph: to answer one batch as soon as possible."""
    return {
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bfloat16" else "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": "1",
        "INFERENCE_NUM_THREADS": str(threads or compute_threads()),
    }
