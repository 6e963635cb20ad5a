"""A network that is not cut, in any of the runtimes: what early exit is measured against."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from ranet.errors import UserError
from ranet.inference.graphs.exporter import exported
from ranet.inference.runtimes.backend import Precision
from ranet.inference.runtimes.cuda_graphs import GraphedStages
from ranet.inference.runtimes.onnxruntime_backend import session_options
from ranet.inference.runtimes.openvino_backend import compile_options, openvino_core
from ranet.inference.stages.fused_stages import FusedStage
from ranet.support.extras import require

Images = npt.NDArray[np.float32]
Shape = tuple[int, int, int, int]


@dataclass(frozen=True)
class Uncut:
    """A network ready to run on images (B, 3, H, W), always as many, in two steps.

    Attributes:
        place: brings images to where and how the runtime reads them.
        compute: from what `place` gives to whatever the network says of the images, on the host.
    """

    place: Callable[[Images], Any]
    compute: Callable[[Any], Any]

    def __call__(self, images: Images) -> Any:
        """What the network says of these images."""
        return self.compute(self.place(images))


class Runtime(NamedTuple):
    """Where and how a network runs.

    Attributes:
        backend: "torch", "onnxruntime" or "openvino".
        precision: "float32" or "bfloat16"; ONNX Runtime computes in float32 alone.
        threads: processor threads of ONNX Runtime and OpenVINO; None: one for each core that this process may use.
            PyTorch's hold for the process.
        device: for PyTorch.
    """

    backend: str
    precision: Precision = "float32"
    threads: int | None = None
    device: str = "cpu"


def uncut(model: nn.Module | bytes | Path, runtime: Runtime, shape: Shape) -> Uncut:
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
    graph = onnx_graph(model, shape[1:]) if isinstance(model, nn.Module) else model
    make = _in_onnxruntime if runtime.backend == "onnxruntime" else _in_openvino
    try:
        return make(graph, runtime, shape)
    except UserError:
        raise
    except Exception as error:  # runtimes raise errors of their own kinds, and of none in particular
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(f"{runtime.backend} cannot run the graph ({lines[0].rstrip('.')}).") from error


def onnx_graph(module: nn.Module, shape: Sequence[int]) -> bytes:
    """A module in evaluation mode as an ONNX graph from images (B, *shape) for any B.

    Raises:
        UserError: if PyTorch cannot export it, or the packages that it needs are missing.
    """
    ready = copy.deepcopy(module).eval().to("cpu", torch.float32)
    return bytes(exported(ready, shape, type(module).__name__).SerializeToString())


def _in_torch(module: nn.Module, runtime: Runtime) -> Uncut:
    """Channels last, in evaluation mode, on a GPU as a CUDA graph: as the engine runs its stages."""
    dtype = torch.bfloat16 if runtime.precision == "bfloat16" else torch.float32
    ready = copy.deepcopy(module).eval().requires_grad_(False).to(runtime.device, dtype)
    ready = ready.to(memory_format=torch.channels_last)
    graphs = GraphedStages(lambda _, state: (ready(state[0]), ())) if runtime.device.startswith("cuda") else None

    @torch.inference_mode()
    def place(images: Images) -> Any:
        return torch.from_numpy(images).to(runtime.device, dtype, memory_format=torch.channels_last)

    @torch.inference_mode()
    def compute(given: Any) -> Any:
        outputs = ready(given) if graphs is None else graphs.replay(FusedStage(0, 0), (given,))[0]
        return outputs.float().cpu().numpy()

    return Uncut(place, compute)


def _in_onnxruntime(graph: bytes | Path, runtime: Runtime, shape: Shape) -> Uncut:
    options = session_options(runtime.threads)
    onnxruntime = require("onnxruntime", "onnx", "The onnxruntime backend")
    model = str(graph) if isinstance(graph, Path) else graph
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    session.run(None, {name: np.zeros(shape, dtype=np.float32)})
    return Uncut(lambda images: {name: images}, lambda given: session.run(None, given))


def _in_openvino(graph: bytes | Path, runtime: Runtime, shape: Shape) -> Uncut:
    core = openvino_core()
    openvino = require("openvino", "openvino", "The openvino backend")
    model = core.read_model(graph)
    model.reshape(list(shape))
    options = compile_options(runtime.precision, runtime.threads)
    request = core.compile_model(model, "CPU", options).create_infer_request()

    def place(images: Images) -> Any:
        return openvino.Tensor(np.ascontiguousarray(images), shared_memory=True)

    def compute(given: Any) -> Any:
        request.set_input_tensor(given)
        request.infer(share_outputs=True)  # else they are copied once more
        return [output.data for output in request.output_tensors]

    return Uncut(place, compute)
