"""ONNX files of small classifiers, as other programs may have written them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx: Any = pytest.importorskip("onnx")
WEIGHTS = np.random.default_rng(0).standard_normal((3, 5), dtype=np.float32)


def write_onnx(
    path: Path,
    shape: tuple[int | str, ...],
    kind: str = "FLOAT",
    inputs: int = 1,
    output: tuple[int | str, ...] | None = None,
) -> Path:
    """A graph that averages over the pixels and multiplies by `WEIGHTS`."""
    helper = onnx.helper
    given = [helper.make_tensor_value_info(f"images{i}", getattr(onnx.TensorProto, kind), shape) for i in range(inputs)]
    nodes = [
        helper.make_node("GlobalAveragePool", ["images0"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["vector"]),
        helper.make_node("MatMul", ["vector", "weights"], ["logits"]),
    ]
    out = helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, output or (shape[0], 5))
    weights = onnx.numpy_helper.from_array(WEIGHTS, "weights")
    graph = helper.make_graph(nodes, "rival", given, [out], [weights])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path
