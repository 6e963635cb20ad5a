"""Counting operations by running: multiply-adds, and the operations that the papers count."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

Result = TypeVar("Result")
aten = torch.ops.aten


# What the papers' counter adds to the multiply-adds, by arguments and result of an operator: linear biases, 1 operation
# per ReLU element, and the kernel's area per pooled element (for average pooling to one pixel, which PyTorch runs as a
# mean, the size of its input).
_PAPER_EXTRAS: dict[Any, Callable[[Sequence[Any], Any], int]] = {
    aten.addmm: lambda _, out: out.numel(),
    aten.relu: lambda arguments, _: arguments[0].numel(),
    aten.relu_: lambda arguments, _: arguments[0].numel(),
    aten.mean: lambda arguments, _: arguments[0].numel(),
    aten.max_pool2d_with_indices: lambda arguments, out: out[0].numel() * math.prod(arguments[1]),
}
# Operators that only move, compare, normalise or pool numbers. Neither count has them, as the papers do not; nor
# operators on single elements, sums and views, which PyTorch marks as such.
_NOT_COUNTED = re.compile(
    r"hard\w+|\w*relu\w*|\w+glu\w*|(_?adaptive_)?(avg|max)_pool\w*|mean|a?minmax|arg(max|min)|max|min|sum|prod|"
    r"std|var|var_mean|norm|topk|sort|"
    r"(_?native|_cudnn|cudnn|_?fused)?_?(batch|layer|group|rms)_norm\w*|_(log_|safe_)?softmax|upsample_\w+|"
    r"cat|stack|copy_?|_to_copy|clone|detach|lift\w*|index\w*|gather|scatter\w*|roll|flip|\w*pad\w*|repeat\w*|"
    r"where|nonzero|embedding|pixel_(un)?shuffle|channel_shuffle|native_dropout|bernoulli\w*|rand\w*|"
    r"(new_)?(empty|zeros|ones|full)\w*|arange|linspace|scalar_tensor|fill_?|eye|tri[lu]\w*|as_strided\w*|"
    r"zero_?|cumsum_?|_unsafe_view|_local_scalar_dense|_reshape_alias"
)


@cache
def _is_free(func: Any) -> bool:
    """Return whether an operator is one that neither count has."""
    name = str(func.overloadpacket).removeprefix("aten.")
    out_of_place = getattr(aten, name.removesuffix("_"), None)
    tags = {str(tag) for tag in func.tags}
    if out_of_place is not None:
        tags |= {str(tag) for each in out_of_place.overloads() for tag in getattr(out_of_place, each).tags}
    return bool(tags & {"Tag.pointwise", "Tag.reduction"}) or func.is_view or bool(_NOT_COUNTED.fullmatch(name))


@dataclass
class Operations:
    """Operations of a call.

    Attributes:
        macs: multiply-adds of convolutions and matrix products.
        paper_ops: what the MSDNet and RANet papers call FLOPs: the multiply-adds, plus the biases of linear layers, one
            for each element that passes a ReLU, and the kernel's area for each pooled element.
        uncounted: names of operators that may multiply and add, and that no formula counts; their cost is missing.
    """

    macs: int = 0
    paper_ops: int = 0
    uncounted: frozenset[str] = frozenset()

    def __add__(self, other: Operations) -> Operations:
        macs, paper_ops = self.macs + other.macs, self.paper_ops + other.paper_ops
        return Operations(macs, paper_ops, self.uncounted | other.uncounted)


class _Counter(TorchDispatchMode):
    """Adds up every operator that passes, with PyTorch's formulas for multiply-adds (which count 2 for each).

    Args:
        module_of: what to call the operators that pass now: None, or the name of a module that is counted apart.
    """

    def __init__(self, module_of: Callable[[], str | None]) -> None:
        super().__init__()
        self.counted: dict[str | None, Operations] = {None: Operations()}
        self._module_of = module_of

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        operator = func.overloadpacket
        if operator is aten.native_batch_norm and args[0].is_meta:
            # It costs nothing and keeps the shape, but would take most of the time: without data it runs in Python.
            return args[0], args[0].new_empty(0), args[0].new_empty(0)
        out = func(*args, **kwargs)
        counted = Operations()
        if operator in flop_registry:
            counted.macs = counted.paper_ops = flop_registry[operator](*args, **kwargs, out_val=out) // 2
        elif not _is_free(func):
            counted.uncounted = frozenset({str(operator)})
        if operator in _PAPER_EXTRAS:
            counted.paper_ops += _PAPER_EXTRAS[operator](args, out)
        module = self._module_of()
        self.counted[module] = self.counted.get(module, Operations()) + counted
        return out


def count_operations(run: Callable[[], Result]) -> tuple[Operations, Result]:
    """Run a call and count its operations; return them and what the call returned.

    Example:
        >>> linear = torch.nn.Linear(100, 10)
        >>> count_operations(lambda: linear(torch.zeros(1, 100)))[0]
        Operations(macs=1000, paper_ops=1010, uncounted=frozenset())
    """
    counted, result = count_apart(run, {})
    return counted[None], result


def count_apart(
    run: Callable[[], Result], modules: Mapping[str, nn.Module]
) -> tuple[dict[str | None, Operations], Result]:
    """Run a call and count its operations, those inside some modules apart.

    Returns:
        The operations inside each module that ran, by its name, and under None all others; and what the call returned.
    """
    inside: list[str] = []
    hooks = []
    for name, module in modules.items():
        hooks.append(module.register_forward_pre_hook(lambda *_, name=name: inside.append(name)))
        hooks.append(module.register_forward_hook(lambda *_: inside.pop() and None))
    try:
        with torch.no_grad(), _Counter(lambda: inside[-1] if inside else None) as counter:
            result = run()
    finally:
        for hook in hooks:
            hook.remove()
    return counter.counted, result
