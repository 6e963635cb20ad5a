"""A classifier as a graph of torch.fx: what each node computes, changes and costs."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from ranet.errors import UserError, first_line
from ranet.models.staged import StagedNetwork, without_data

#: The sizes of the two batches that tell what depends on the batch from what does not.
BATCHES = (2, 3)


@dataclass(frozen=True)
class Call:
    """A call of a module: what it returned, and the index of the last node that had run by then."""

    returned: Any
    end: int


@dataclass(eq=False)
class Traced:
    """The nodes of a classifier, in evaluation or in training mode, in the order in which they run.

    Attributes:
        name: of the classifier's class.
        nodes: all but the graph's output; the first is the images.
        answer: the node with the logits.
        calls: the calls of each module, by its path.
        whole: the classes whose modules run as one node because torch.fx failed in them, and why.
        values: for each of ``BATCHES`` what every node computes, on tensors without data.
        macs: multiply-adds for one image of all nodes up to each.
        changed: for each node the indices of the nodes that change its tensor in place.
    """

    name: str
    nodes: list[fx.Node]
    answer: fx.Node
    calls: dict[str, list[Call]]
    whole: dict[type, str]
    values: list[dict[fx.Node, Any]]
    macs: list[float]
    changed: dict[fx.Node, list[int]]

    @cached_property
    def index(self) -> dict[fx.Node, int]:
        """The index of each node."""
        return {node: i for i, node in enumerate(self.nodes)}

    @cached_property
    def of_images(self) -> set[fx.Node]:
        """The nodes whose tensors depend on the images, and not on their shape alone."""
        found = {self.nodes[0]}
        for node in self.nodes[1:]:
            if not found.isdisjoint(node.all_input_nodes) and self.has_tensors(node):
                found.add(node)
        return found

    def has_tensors(self, node: fx.Node) -> bool:
        """Return whether a node computes a tensor or several, and not a number or a shape."""
        return bool(_tensors(self.values[0][node]))


def trace(backbone: nn.Module, shape: Sequence[int]) -> tuple[Traced, Traced]:
    """Trace a classifier as it runs on images (B, *shape), in evaluation and in training mode.

    Modules without submodules run as one node, and so do modules in which torch.fx fails. Most networks differ between
    the modes in such modules alone, and then both are the same object.

    Raises:
        UserError: if torch.fx cannot trace it, or it does not turn such images into logits (B, C).
    """
    modes = {module: module.training for module in backbone.modules()}
    try:
        graphs = [(mode, *_symbolic(backbone.train(mode))) for mode in (False, True)]
        for node in (node for _, graph, _ in graphs for node in graph.nodes):
            value = vars(backbone).get(str(node.target)) if node.op == "get_attr" else None
            if isinstance(value, Tensor):  # a constant that torch.fx has stored: it moves with the network
                delattr(backbone, str(node.target))
                backbone.register_buffer(str(node.target), value, persistent=False)
        evaluated = _traced(backbone.eval(), *graphs[0], shape)
        if str(graphs[0][1]) == str(graphs[1][1]):
            return evaluated, evaluated
        return evaluated, _traced(backbone.train(), *graphs[1], shape)
    finally:
        for each, mode in modes.items():
            each.training = mode


def _symbolic(backbone: nn.Module) -> tuple[fx.Graph, _Tracer]:
    whole: dict[type, str] = {}
    while True:
        tracer = _Tracer(whole)
        try:
            return tracer.trace(backbone), tracer
        except Exception as error:
            if tracer.failed is None:
                raise UserError(
                    f"{type(backbone).__name__} cannot be cut, because torch.fx cannot trace its forward "
                    f"({_where(error)}); change that line, or derive a network from ranet.StagedNetwork."
                ) from error
            whole[type(tracer.failed)] = _where(error)


def _traced(backbone: nn.Module, training: bool, graph: fx.Graph, tracer: _Tracer, shape: Sequence[int]) -> Traced:
    name, module = type(backbone).__name__, without_data(backbone)
    runs = [_recorded(module, graph, (batch, *shape), name) for batch in BATCHES]
    *nodes, output = graph.nodes
    answer = output.args[0]
    value = runs[0].env.get(answer) if isinstance(answer, fx.Node) else answer
    if not isinstance(answer, fx.Node) or not isinstance(value, Tensor) or value.ndim != 2 or len(value) != BATCHES[0]:
        got = tuple(value.shape) if isinstance(value, Tensor) else f"a {type(value).__name__}"
        raise UserError(
            f"{name} must return logits (images, classes); in {'training' if training else 'evaluation'} mode it "
            f"returned {got} for images {(BATCHES[0], *shape)}."
        )
    macs = [flops / 2 / BATCHES[-1] for flops in runs[-1].flops]
    values = [run.env for run in runs]
    return Traced(name, nodes, answer, tracer.calls, tracer.whole, values, macs, runs[-1].changed)


class _Tracer(fx.Tracer):
    """Notes what each module returns.

    Modules without submodules and batch normalisation run as one node, so that what they do in training alone (dropout,
    stochastic depth, statistics) is decided when they run.
    """

    proxy_buffer_attributes = True  # otherwise what is computed of a buffer would be a constant

    def __init__(self, whole: dict[type, str]) -> None:
        super().__init__()
        self.calls: dict[str, list[Call]] = {}
        self.failed: nn.Module | None = None
        self.whole = whole

    def create_args_for_root(self, root_fn: Any, is_module: bool, concrete_args: Any = None) -> tuple[Any, list[Any]]:
        """Leave all arguments but the images at their defaults."""
        images = self.create_proxy("placeholder", "images", (), {})
        return (_only_exit if isinstance(self.root, StagedNetwork) else root_fn), [self.root, images]

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, fx.Proxy]) -> Any:
        self.param_shapes_constant = isinstance(attr_val, nn.Parameter)  # torch.fx cannot do it for buffers
        return super().getattr(attr, attr_val, parameter_proxy_cache)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        alone = isinstance(m, _BatchNorm) or type(m) in self.whole or next(m.children(), None) is None
        return alone or super().is_leaf_module(m, module_qualified_name)

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        try:
            returned = super().call_module(m, forward, args, kwargs)
        except Exception:
            self.failed = self.failed or m
            raise
        self.calls.setdefault(self.path_of_module(m), []).append(Call(returned, len(self.graph.nodes) - 1))
        return returned


class _Recorder(fx.Interpreter):
    """Runs a graph, and keeps what it computes, what it costs, and which tensors change in place."""

    def __init__(self, module: nn.Module, graph: fx.Graph) -> None:
        super().__init__(module, garbage_collect_values=False, graph=graph)
        self.extra_traceback = False
        self.counter = FlopCounterMode(display=False)
        self.flops: list[int] = []
        self.changed: dict[fx.Node, list[int]] = {}
        self._versions: dict[fx.Node, list[int]] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if any(_versions(self.env[node]) != self._versions[node] for node in n.all_input_nodes):
            for node, before in self._versions.items():
                now = _versions(self.env[node])
                if now != before:
                    self.changed.setdefault(node, []).append(len(self.flops))
                    self._versions[node] = now
        self._versions[n] = _versions(value)
        self.flops.append(self.counter.get_total_flops())
        return value


def _recorded(module: nn.Module, graph: fx.Graph, shape: Sequence[int], name: str) -> _Recorder:
    recorder = _Recorder(module, graph)
    parameter = next(module.parameters(), torch.empty(0))
    try:
        with torch.no_grad(), recorder.counter:
            recorder.run(torch.empty(shape, device="meta", dtype=parameter.dtype))
    except Exception as error:
        raise UserError(
            f"{name} cannot run on images {tuple(shape)} ({_where(error)}); give the input_size="
            "(channels, height, width) that it was built for, and a network that decides by their shape alone."
        ) from error
    return recorder


def _only_exit(network: StagedNetwork, images: Any) -> Any:
    return network.forward_to(images, 0)


def _tensors(value: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]


def _versions(value: Any) -> list[int]:
    return [tensor._version for tensor in _tensors(value)]


def _where(error: Exception) -> str:
    """Return an exception's message in short, with the last line of code that is not PyTorch's."""
    inner = {Path(torch.__file__).parent, Path(__file__)}
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        if inner.isdisjoint({path, *path.parents}):
            return f"{path.name}, line {frame.lineno}, {frame.line!r}: {first_line(error)}"
    return first_line(error)
