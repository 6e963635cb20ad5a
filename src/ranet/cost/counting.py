"""Counting operations by running: multiply-adds, and the operations that the papers count."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

Result = TypeVar("Result")
aten = torch.ops.aten


def _bias_of_linear(arguments: Sequence[Any], out: Tensor) -> int:
    return out.numel()


def _input_elements(arguments: Sequence[Any], out: Any) -> int:
    return arguments[0].numel()


def _kernel_per_pooled_element(arguments: Sequence[Any], out: Sequence[Tensor]) -> int:
    pooled, _indices = out
    return pooled.numel() * math.prod(arguments[1])


# What the papers' counter adds to the multiply-adds: linear biases, one operation per ReLU element, and the kernel's
# area per pooled element (for average pooling to one pixel, which PyTorch runs as a mean, the size of its input).
_PAPER_EXTRAS: dict[Any, Callable[[Sequence[Any], Any], int]] = {
    aten.addmm: _bias_of_linear,
    aten.relu: _input_elements,
    aten.relu_: _input_elements,
    aten.mean: _input_elements,
    aten.max_pool2d_with_indices: _kernel_per_pooled_element,
}


@dataclass
class Operations:
    """Operations of a call.

    Attributes:
        macs: multiply-adds of convolutions and matrix products.
        paper_ops: what the MSDNet and RANet papers call FLOPs: the multiply-adds, plus the biases of linear layers, one
            for each element that passes a ReLU, and the kernel's area for each pooled element; batch normalisation,
            concatenation, resizing and biases of convolutions count nothing.
    """

    macs: int = 0
    paper_ops: int = 0


class _Counter(TorchDispatchMode):
    """Adds up every operator that passes, with PyTorch's formulas for multiply-adds (which count 2 for each)."""

    def __init__(self) -> None:
        super().__init__()
        self.counted = Operations()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        operator = func.overloadpacket
        if operator is aten.native_batch_norm and args[0].is_meta:
            # It costs nothing and keeps the shape, but would take most of the time: without data it runs in Python.
            return args[0], args[0].new_empty(0), args[0].new_empty(0)
        out = func(*args, **kwargs)
        if operator in flop_registry:
            macs = flop_registry[operator](*args, **kwargs, out_val=out) // 2
            self.counted.macs += macs
            self.counted.paper_ops += macs
        if operator in _PAPER_EXTRAS:
            self.counted.paper_ops += _PAPER_EXTRAS[operator](args, out)
        return out


def count_operations(run: Callable[[], Result]) -> tuple[Operations, Result]:
    """Run a call and count its operations; return them and what the call returned.

    Example:
        >>> linear = torch.nn.Linear(100, 10)
        >>> count_operations(lambda: linear(torch.zeros(1, 100)))[0]
        Operations(macs=1000, paper_ops=1010)
    """
    with torch.no_grad(), _Counter() as counter:
        result = run()
    return counter.counted, result
