"""ONNX graphs of a network that is here: exported once as a whole, then cut into the fused stages asked for."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ranet.errors import UserError, first_line
from ranet.inference.runtimes.stage_graph import IMAGES, StageGraph
from ranet.inference.runtimes.torch_backend import network_facts
from ranet.inference.stages.fused_stages import FusedStage
from ranet.inference.stages.prepared import prepared
from ranet.models.staged import StagedNetwork
from ranet.support.extras import require
from ranet.support.files import default_cache, written_whole
from ranet.support.shapes import TensorSpec

# A new one whenever the graphs of a network change, so that none of the old ones is read again.
_FORMAT = 2
log = logging.getLogger(__name__)


class NetworkGraphs:
    """The fused stages of a network as ONNX graphs in float32, with any batch size (a `GraphSource`).

    PyTorch takes seconds to export a network, so this is done once, with every tensor of every cut as an output, and
    all K (K + 1) / 2 fused stages are cut out of that graph. It is kept in a folder, where the next process finds it. A
    tensor that passes a stage by has the same name on both sides of it and is not in the stage's graph.

    The network is copied. The folder is by default ``graphs`` in `default_cache`; a warning says if it cannot be
    written.

    Raises:
        UserError: when a graph is asked for, if onnx or onnxscript is missing, or PyTorch cannot export the network.
    """

    def __init__(self, network: StagedNetwork, cache: str | Path | None = None) -> None:
        self.facts = network_facts(network)
        self._network = prepared(network).to("cpu", torch.float32)
        self._folder = default_cache() / "graphs" if cache is None else Path(cache)
        self._graph: _WholeGraph | None = None

    def graph(self, stage: FusedStage) -> StageGraph:
        """Return the graph of a fused stage, as bytes."""
        whole = self._whole()
        before, after = (whole.specs(whole.cuts[k]) for k in (stage.first, stage.last + 1))
        graph = StageGraph(b"", before, (), f"logits_{stage.last}", after)
        model, inputs = whole.cut(whole.cuts[stage.first], graph.outputs)
        return graph._replace(model=model, inputs=inputs)

    def _whole(self) -> _WholeGraph:
        if self._graph is None:
            onnx = require("onnx", "onnx", "The export of a network")
            versions = {name: version(name) for name in ("torch", "onnx", "onnxscript", "ranet")}
            code = _source(self._network)
            key = json.dumps([_FORMAT, self.facts.fingerprint, versions, code]).encode()
            path = self._folder / f"network_{hashlib.sha256(key).hexdigest()[:32]}.bin"
            kept = None if code is None else _read(path, key)
            if kept is None:
                kept = _export(self._network)
                if code is not None:
                    _write(path, key, kept)
            self._graph = _WholeGraph(onnx, kept)
        return self._graph


class _WholeGraph:
    """An exported network, every tensor of every cut among its outputs.

    ``cuts`` are the names of the state's tensors before each of the K stages, and after the last.
    """

    def __init__(self, onnx: Any, model: bytes) -> None:
        self._onnx = onnx
        self._model = onnx.load_from_string(model)
        graph = self._model.graph
        self.cuts: list[list[str]] = json.loads({p.key: p.value for p in self._model.metadata_props}["cuts"])
        self._values = {value.name: value for value in [*graph.input, *graph.output]}
        self._makers = {name: i for i, node in enumerate(graph.node) for name in node.output if name}

    def specs(self, names: Sequence[str]) -> tuple[TensorSpec, ...]:
        return tuple(
            TensorSpec(name, tuple(size.dim_value for size in self._values[name].type.tensor_type.shape.dim[1:]))
            for name in names
        )

    def cut(self, inputs: Sequence[str], outputs: Sequence[str]) -> tuple[bytes, tuple[str, ...]]:
        """Return the part of the graph from some tensors to others, and those of the inputs that it reads."""
        graph = self._model.graph
        weights = {weight.name: weight for weight in graph.initializer}
        needed: set[int] = set()
        read: set[str] = set()
        open_names = list(outputs)
        while open_names:
            name = open_names.pop()
            if name in read or not name:  # an optional input that is not given has no name
                continue
            read.add(name)
            if name in inputs or name in weights or self._makers[name] in needed:
                continue
            needed.add(self._makers[name])
            open_names += self._node(name, inputs).input
        used = tuple(name for name in inputs if name in read)
        helper = self._onnx.helper
        part = helper.make_graph(
            [self._node(graph.node[i].output[0], inputs) for i in sorted(needed)],
            "stage",
            [self._values[name] for name in used],
            [self._values[name] for name in outputs],
            [weight for name, weight in weights.items() if name in read],
        )
        model = helper.make_model(part, opset_imports=self._model.opset_import, ir_version=self._model.ir_version)
        return model.SerializeToString(), used

    def _node(self, name: str, inputs: Sequence[str]) -> Any:
        """Return the node that makes a tensor; behind a cut it takes the batch size from the state, not the images."""
        node = self._model.graph.node[self._makers[name]]
        if node.op_type != "Shape" or node.input[0] != IMAGES or IMAGES in inputs:
            return node
        behind = type(node)()
        behind.CopyFrom(node)
        behind.input[0] = inputs[0]
        return behind


class _AllCuts(nn.Module):
    """A network whose outputs are the logits of every exit and every tensor of every cut, each of them once."""

    def __init__(self, network: StagedNetwork) -> None:
        super().__init__()
        self.network = network
        self.cuts: list[list[str]] = []
        self.names: list[str] = []

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        network = self.network
        # By identity: a stage hands on what it does not touch as the very same tensor. The tensors are kept, because
        # the next one could get the identity of one that is gone.
        names: dict[int, str] = {id(images): IMAGES}
        tensors: list[Tensor] = [images]

        def name(tensor: Tensor, otherwise: str) -> str:
            if id(tensor) not in names:
                names[id(tensor)] = otherwise
                tensors.append(tensor)
            return names[id(tensor)]

        self.cuts = [[IMAGES]]
        for k, state, logits in network.walk(images):
            name(logits, f"logits_{k}")
            if k < network.num_exits - 1:
                carried = network.carry(k, state, logits)
                self.cuts.append([name(tensor, f"state_{k}_{i}") for i, tensor in enumerate(carried)])
        record = state[: min(1, len(network.optional_parts))]
        self.cuts.append([name(tensor, f"state_{network.num_exits}_{i}") for i, tensor in enumerate(record)])
        self.names = [names[id(tensor)] for tensor in tensors[1:]]
        return tuple(tensors[1:])


def _source(network: nn.Module) -> str | None:
    """Return a hash of the source files of a network's classes, without PyTorch's; None where there is no such file.

    The same weights in other code compute something else.
    """
    kinds = {kind for module in network.modules() for kind in type(module).__mro__ if kind is not object}
    digest = hashlib.sha256()
    try:
        own = (kind for kind in kinds if kind.__module__.partition(".")[0] not in ("torch", "abc", "typing"))
        for file in sorted({inspect.getfile(kind) for kind in own}):
            digest.update(Path(file).read_bytes())
    except (TypeError, OSError):  # a class was typed into a console
        return None
    return digest.hexdigest()


def _export(network: StagedNetwork) -> bytes:
    """Return the whole network as an ONNX model, with the names at its cuts as JSON in its metadata."""
    for package in ("onnx", "onnxscript"):
        require(package, "onnx", "The export of a network")
    wrapped = _AllCuts(network).eval()
    with torch.no_grad():
        wrapped(torch.zeros(1, *network.image_shape))  # for the names
    name = type(network).__name__
    log.info("Exporting the %s as an ONNX graph; this takes some seconds.", name)
    try:
        with _quietly():
            program = torch.onnx.export(
                wrapped,
                (torch.zeros(2, *network.image_shape),),  # two, because PyTorch takes a size of one for a constant
                input_names=[IMAGES],
                output_names=wrapped.names,
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                dynamo=True,
                verbose=False,
            )
    except (torch.onnx.OnnxExporterError, RuntimeError) as error:
        raise UserError(
            f"PyTorch cannot export this {name} as an ONNX graph, so use the torch backend "
            f"({first_line(error.__cause__ or error)})."
        ) from error
    assert program is not None
    model = program.model_proto
    # Where in which source file each operator comes from: several times the size of a small network.
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in [*model.graph.input, *model.graph.output, *model.graph.initializer]:
        del value.metadata_props[:]
    del model.graph.value_info[:], model.graph.metadata_props[:], model.metadata_props[:]
    model.metadata_props.add(key="cuts", value=json.dumps(wrapped.cuts))
    return bytes(model.SerializeToString())


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Hide the exporter's remarks about itself; errors are raised."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def _read(path: Path, key: bytes) -> bytes | None:
    """Return the model in a file; None if it is missing, damaged or of another network."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    seal, model = content[:32], content[32:]
    return model if seal == _seal(key, model) else None


def _write(path: Path, key: bytes, model: bytes) -> None:
    try:
        with written_whole(path) as partial:
            partial.write_bytes(_seal(key, model) + model)
    except OSError as error:
        warnings.warn(
            f"The graph of the network cannot be kept in {path.parent} ({error.strerror or error}), so it will be "
            "exported again next time.",
            stacklevel=2,
        )


def _seal(key: bytes, model: bytes) -> bytes:
    return hashlib.sha256(key + model).digest()
