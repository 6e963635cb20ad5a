"""A network that is not cut, in any of the runtimes: what early exit is measured against."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from ranet.errors import UserError
from ranet.inference.backend import Precision
from ranet.inference.cuda_graphs import GraphedStages
from ranet.inference.fused_stages import FusedStage

#: From images (B, 3, H, W), always of the same number, to whatever the network says of them, on the host.
Run = Callable[[npt.NDArray[np.float32]], Any]
Shape = tuple[int, int, int, int]


class Runtime(NamedTuple):
    """Where and how a network runs.

    Attributes:
        backend: "torch", "onnxruntime" or "openvino".
        precision: "float32" or "bfloat16"; ONNX Runtime computes in float32 alone.
        threads: processor threads of ONNX Runtime and OpenVINO; None leaves it to them. PyTorch's hold for the process.
        device: for PyTorch.
    """

    backend: str
    precision: Precision = "float32"
    threads: int | None = None
    device: str = "cpu"


def uncut(model: nn.Module | bytes | Path, runtime: Runtime, shape: Shape) -> Run:
    """Make a whole network ready to run.

    Args:
        model: a PyTorch module, or an ONNX graph: its bytes or its file, with one input.
        runtime: where; a PyTorch module runs in the others by its `onnx_graph`.
        shape: of the batches (B, 3, H, W).

    Raises:
        UserError: if the runtime cannot run it.
    """
    if runtime.backend == "torch":
        assert isinstance(model, nn.Module), "ONNX graphs run in ONNX Runtime and OpenVINO"
        return _in_torch(model, runtime)
    graph = onnx_graph(model, shape[-1]) if isinstance(model, nn.Module) else model
    make = _in_onnxruntime if runtime.backend == "onnxruntime" else _in_openvino
    try:
        return make(graph, runtime, shape)
    except UserError:
        raise
    except Exception as error:  # runtimes raise errors of their own kinds, and of none in particular
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(f"{runtime.backend} cannot run the graph ({lines[0].rstrip('.')}).") from error


def onnx_graph(module: nn.Module, image_size: int) -> bytes:
    """A module in evaluation mode as an ONNX graph from images (B, 3, H, W), H = W, for any B.

    Raises:
        UserError: if PyTorch cannot export it, or the packages that it needs are missing.
    """
    ready = copy.deepcopy(module).eval().to("cpu", torch.float32)
    # Two images, because PyTorch takes a size of one for a constant.
    images = torch.zeros(2, 3, image_size, image_size)
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)  # what the exporter remarks about itself
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                ready, (images,), dynamic_shapes=({0: torch.export.Dim("batch")},), dynamo=True, verbose=False
            )
    except ImportError as error:
        raise UserError('To export networks to ONNX install the extra: pip install "ranet[onnx]".') from error
    except (torch.onnx.OnnxExporterError, RuntimeError) as error:
        lines = str(error.__cause__ or error).strip().splitlines() or [type(error).__name__]
        raise UserError(
            f"PyTorch cannot export this {type(module).__name__} as an ONNX graph ({lines[0].rstrip('.')})."
        ) from error
    finally:
        logging.disable(level)
    assert program is not None
    return bytes(program.model_proto.SerializeToString())


def _in_torch(module: nn.Module, runtime: Runtime) -> Run:
    """Channels last, in evaluation mode, on a GPU as a CUDA graph: as the engine runs its stages."""
    dtype = torch.bfloat16 if runtime.precision == "bfloat16" else torch.float32
    ready = copy.deepcopy(module).eval().requires_grad_(False).to(runtime.device, dtype)
    ready = ready.to(memory_format=torch.channels_last)
    graphs = GraphedStages(lambda _, state: (ready(state[0]), ())) if runtime.device.startswith("cuda") else None

    @torch.inference_mode()
    def run(images: npt.NDArray[np.float32]) -> Any:
        given = torch.from_numpy(images).to(runtime.device, dtype, memory_format=torch.channels_last)
        outputs = ready(given) if graphs is None else graphs.replay(FusedStage(0, 0), (given,))[0]
        return outputs.float().cpu().numpy()

    return run


def _in_onnxruntime(graph: bytes | Path, runtime: Runtime, shape: Shape) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = runtime.threads or 0
    # As for the engine's stages, and so that its threads are out of the way of whose turn comes next.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    model = str(graph) if isinstance(graph, Path) else graph
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    session.run(None, {name: np.zeros(shape, dtype=np.float32)})
    return lambda images: session.run(None, {name: images})


def _in_openvino(graph: bytes | Path, runtime: Runtime, shape: Shape) -> Run:
    import openvino

    core = openvino.Core()
    model = core.read_model(graph)
    model.reshape(list(shape))
    properties: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": "bf16" if runtime.precision == "bfloat16" else "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": "1",
    }
    if runtime.threads is not None:
        properties["INFERENCE_NUM_THREADS"] = runtime.threads
    request = core.compile_model(model, "CPU", properties).create_infer_request()

    def run(images: npt.NDArray[np.float32]) -> Any:
        request.infer([images], share_inputs=True)
        return [output.data for output in request.output_tensors]

    return run
