"""Counting operations by running: MACs, and the operations that the papers count."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count, mm_flop

Shape = Sequence[int]
aten = torch.ops.aten


def _convolution(
    x: Shape,
    w: Shape,
    _bias: Any,
    _stride: Any,
    _pad: Any,
    _dilation: Any,
    transposed: bool,
    *_: Any,
    out_shape: Shape,
    **__: Any,
) -> int:
    return conv_flop_count(list(x), list(w), list(out_shape), transposed=transposed) // 2


def _matrix_product(a: Shape, b: Shape, *_: Any, out_shape: Any = None, **__: Any) -> int:
    return mm_flop(a, b) // 2


def _linear_with_bias(bias: Shape, a: Shape, b: Shape, *_: Any, out_shape: Shape, **__: Any) -> int:
    return mm_flop(a, b) // 2 + math.prod(out_shape)


def _one_per_element(x: Shape, *_: Any, out_shape: Any = None, **__: Any) -> int:
    return math.prod(x)


def _max_pooling(x: Shape, kernel: Sequence[int], *_: Any, out_shape: Sequence[Shape], **__: Any) -> int:
    pooled = out_shape[0]  # values and indices
    return math.prod(pooled) * math.prod(kernel)


# What the papers' counter adds to the multiply-adds: linear biases, one operation per ReLU element, and the kernel's
# area per pooled element (for average pooling to one pixel, which PyTorch runs as a mean, the size of its input).
_PAPER_OPS: dict[Any, Callable[..., int]] = {
    aten.convolution: _convolution,
    aten.mm: _matrix_product,
    aten.addmm: _linear_with_bias,
    aten.relu: _one_per_element,
    aten.relu_: _one_per_element,
    aten.mean: _one_per_element,
    aten.max_pool2d_with_indices: _max_pooling,
}


def count_macs(run: Callable[[], Any]) -> tuple[int, Any]:
    """Multiply-adds of the convolutions and matrix products in a call, and what the call returned.

    The formulas are those of ``torch.utils.flop_counter``, which counts 2 for each multiply-add. The call must not run
    under ``torch.inference_mode``, where that counter sees nothing.
    """
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        result = run()
    return counter.get_total_flops() // 2, result


def count_paper_ops(run: Callable[[], Any]) -> tuple[int, Any]:
    """Operations of a call as the MSDNet and RANet papers count them ("FLOPs" there), and what the call returned.

    Multiply-adds, plus the biases of linear layers, one for each element that passes a ReLU, and the kernel's area for
    each pooled element; batch normalisation, concatenation, resizing and biases of convolutions count nothing.
    """
    with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=_PAPER_OPS) as counter:
        result = run()
    return counter.get_total_flops(), result
