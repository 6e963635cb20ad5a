"""The backend of ONNX Runtime: float32 on the CPU, any batch size."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ranet.errors import UserError
from ranet.inference.runtimes.backend import Precision, State
from ranet.inference.runtimes.stage_graph import GraphSource, copy_rows, for_runtime, zeros
from ranet.inference.stages.fused_stages import FusedStage
from ranet.support.extras import require
from ranet.support.hardware import compute_threads
from ranet.support.shapes import TensorSpec


class _Loaded(NamedTuple):
    session: Any
    before: tuple[TensorSpec, ...]
    inputs: list[tuple[str, int]]  # with their places among the tensors before the stage
    outputs: list[str]
    after: list[int]  # places among the tensors before the stage with the outputs behind them


class OnnxRuntimeBackend:
    """Fused stages in ONNX Runtime (a `Backend`). States are float32 NumPy arrays, maps (B, C, H, W).

    A graph is loaded when its stage is first used. A UserError says if ONNX Runtime is not installed, or the precision
    is not "float32".
    """

    name = "onnxruntime"
    device = "cpu"
    fixed_sizes: tuple[int, ...] | None = None
    copy_rows = staticmethod(copy_rows)

    def __init__(self, source: GraphSource, threads: int | None = None, precision: Precision = "float32") -> None:
        self._runtime = require("onnxruntime", "onnx", "The onnxruntime backend")
        if precision != "float32":
            raise UserError(
                f"ONNX Runtime does not compute in {precision} on CPUs; use precision=float32, or the openvino or "
                "torch backend."
            )
        self.facts = source.facts
        self.precision: Precision = precision
        self._source = source
        self._options = session_options(threads)
        self._stages: dict[FusedStage, _Loaded] = {}

    def run(self, stage: FusedStage, state: State, rows: int) -> tuple[npt.NDArray[np.float32], State]:
        """Run a stage; see `Backend.run`. What it returns is new each time, but for what passes the stage by."""
        session, _, inputs, outputs, after = self._stages.get(stage) or self._load(stage)
        made = session.run(outputs, {name: state[place] for name, place in inputs})
        tensors = (*state, *made)
        return made[0][:rows], tuple(tensors[place] for place in after)

    def buffer(self, stage: FusedStage, size: int) -> State:
        """Return new arrays of zeros for the state that a stage starts from."""
        loaded = self._stages.get(stage) or self._load(stage)
        return tuple(zeros((size, *spec.shape), np.float32) for spec in loaded.before)

    def _load(self, stage: FusedStage) -> _Loaded:
        graph = self._source.graph(stage)
        model = for_runtime(graph.model)
        try:
            session = self._runtime.InferenceSession(model, self._options, providers=["CPUExecutionProvider"])
        except Exception as error:  # of a dozen kinds, all of the runtime's own
            if isinstance(graph.model, Path):
                raise UserError(f"{graph.model} is not an ONNX graph that can be read; export it again.") from error
            raise
        outputs = graph.outputs
        places = {name: place for place, name in enumerate([*(spec.name for spec in graph.before), *outputs])}
        inputs, after = [(name, places[name]) for name in graph.inputs], [places[spec.name] for spec in graph.after]
        self._stages[stage] = _Loaded(session, graph.before, inputs, outputs, after)
        return self._stages[stage]


def session_options(threads: int | None = None) -> Any:
    """Return the options of sessions (onnxruntime.SessionOptions) that compute beside each other in a process."""
    onnxruntime = require("onnxruntime", "onnx", "The onnxruntime backend")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors; they are raised, too
    options.intra_op_num_threads = threads or compute_threads()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    # Threads that wait for work keep their core busy, which makes a stage up to a third faster; when it ends they
    # must stop at once, or they are in the way of the next stage's threads, which made that one twice as slow.
    options.add_session_config_entry("session.intra_op.allow_spinning", "1")
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options
