"""One contract for all backends: fused stages give the network's logits, and states go on as the engine wants them."""

import pickle
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ranet import StagedNetwork, UserError
from ranet.inference.graphs.of_network import NetworkGraphs
from ranet.inference.runtimes.backend import Backend, NetworkFacts, Precision, State, sized
from ranet.inference.runtimes.onnxruntime_backend import OnnxRuntimeBackend
from ranet.inference.runtimes.openvino_backend import OpenVinoBackend, openvino_core
from ranet.inference.runtimes.stage_graph import StageGraph, copy_rows
from ranet.inference.runtimes.torch_backend import TorchBackend
from ranet.inference.stages.fused_stages import FusedStage, fused_stages
from ranet.support.shapes import TensorSpec
from tests.inference.graphs.test_onnx_graphs import make_thrifty as thrifty
from tests.inference.networks import FLOAT32, make_of_three_exits

pytest.importorskip("openvino")
pytest.importorskip("onnxruntime")

NAMES = ("msdnet_tiny", "ranet_tiny", "isc_msdnet_tiny")
IMAGES = np.random.default_rng(0).standard_normal((12, 3, 32, 32), dtype=np.float32)
SIZES = (3, 7)
BFLOAT16 = "BF16" in openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
BACKENDS = [
    ("torch", "float32"),
    ("torch", "bfloat16"),
    ("onnxruntime", "float32"),
    ("openvino", "float32"),
    pytest.param(("openvino", "bfloat16"), marks=pytest.mark.skipif(not BFLOAT16, reason="this CPU has no bfloat16")),
]
# How far logits may be off, in parts of the largest: bfloat16 has 8 significant bits.
WITHIN = {"float32": FLOAT32, "bfloat16": 0.05}
Logits = npt.NDArray[np.float32]


@cache
def network(name: str) -> StagedNetwork:
    return make_of_three_exits(name)


@cache
def expected(name: str) -> Logits:
    """The logits of every exit, (K, N, C)."""
    with torch.no_grad():
        return network(name)(torch.from_numpy(IMAGES)).numpy()


@cache
def graphs(name: str) -> NetworkGraphs:
    return NetworkGraphs(network(name))  # in the folder of the test session


@cache
def opened(name: str, runtime: str, precision: Precision) -> Backend:
    if runtime == "torch":
        return TorchBackend(network(name), "cpu", precision)
    if runtime == "onnxruntime":
        return OnnxRuntimeBackend(graphs(name), threads=1, precision=precision)
    return OpenVinoBackend(graphs(name), threads=1, precision=precision, batch_sizes=SIZES)


@pytest.fixture(scope="module", params=BACKENDS, ids="-".join)
def runtime(request: pytest.FixtureRequest) -> tuple[str, Precision]:
    return request.param


@pytest.fixture(scope="module", params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def values(array: Any) -> npt.NDArray[Any]:
    """A tensor of any runtime as bits that can be compared."""
    if isinstance(array, torch.Tensor):
        return array.view(torch.int16).numpy() if array.dtype == torch.bfloat16 else array.numpy()
    return np.asarray(array)


def filled(backend: Backend, images: Logits) -> State:
    """A buffer before the first stage with these images."""
    buffer = backend.buffer(FusedStage(0, 0), sized(backend, len(images)))
    backend.copy_rows((images,), None, buffer, 0)
    return buffer


def assert_close(found: Logits, wanted: Logits, precision: Precision) -> None:
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, rtol=0, atol=WITHIN[precision] * abs(wanted).max())


class TestStages:
    def test_each_fused_stage_gives_the_logits_of_the_network(self, name: str, runtime: tuple[str, Precision]) -> None:
        backend, wanted = opened(name, *runtime), expected(name)
        exits = len(wanted)
        before: dict[int, State] = {0: filled(backend, IMAGES[:3])}
        for first in range(exits):
            for last in range(first, exits):
                if runtime[0] == "openvino" and last > first + 1:
                    continue  # it takes a while to compile, and the graphs are those of ONNX Runtime
                logits, after = backend.run(FusedStage(first, last), before[first], 3)
                assert_close(logits, wanted[last, :3], runtime[1])
                assert (after == ()) == (last == exits - 1)
                if first == last and after:
                    before[last + 1] = after

    @settings(max_examples=settings().max_examples // 3)
    @given(data=st.data())
    def test_images_leave_behind_any_cut(self, name: str, runtime: tuple[str, Precision], data: st.DataObject) -> None:
        """Any exits, any number of images, and any of them that go on, in any order."""
        backend, wanted = opened(name, *runtime), expected(name)
        cuts = data.draw(st.sets(st.integers(0, len(wanted) - 1), min_size=1, max_size=3).map(sorted))
        who = np.array(data.draw(st.permutations(range(len(IMAGES))))[: data.draw(st.integers(1, max(SIZES)))])
        state = filled(backend, IMAGES[who])
        chain = fused_stages(cuts)
        for place, stage in enumerate(chain):
            logits, state = backend.run(stage, state, len(who))
            assert_close(logits, wanted[stage.last, who], runtime[1])
            if place + 1 < len(chain) and data.draw(st.booleans()):
                rows = np.array(data.draw(st.lists(st.sampled_from(range(len(who))), min_size=1, unique=True)))
                buffer = backend.buffer(chain[place + 1], sized(backend, len(rows)))
                backend.copy_rows(state, rows, buffer, 0)
                who, state = who[rows], buffer

    def test_what_passes_a_stage_by_is_the_same_tensor_after_it(
        self, name: str, runtime: tuple[str, Precision]
    ) -> None:
        backend = opened(name, *runtime)
        state = filled(backend, IMAGES[:3])
        passed = 0
        for k in range(backend.facts.num_exits):
            graph = graphs(name).graph(FusedStage(k, k))
            _, after = backend.run(FusedStage(k, k), state, 3)
            assert len(after) == len(graph.after)
            for spec, tensor in zip(graph.after, after, strict=True):
                if spec in graph.before:
                    assert tensor is state[graph.before.index(spec)]
                    passed += 1
            state = after
        assert passed > 0

    def test_rows_that_do_not_count_change_nothing(self, name: str, runtime: tuple[str, Precision]) -> None:
        backend = opened(name, *runtime)
        size = sized(backend, 5)
        clean, dirty = (backend.buffer(FusedStage(0, 0), size) for _ in range(2))
        backend.copy_rows((np.full((size, 3, 32, 32), np.nan, dtype=np.float32),), None, dirty, 0)
        answers = []
        for state in (clean, dirty):
            backend.copy_rows((IMAGES[:5],), None, state, 0)
            logits = []
            for k in range(backend.facts.num_exits):
                found, state = backend.run(FusedStage(k, k), state, 5)
                logits.append(found.copy())
            answers.append(np.stack(logits))
        np.testing.assert_array_equal(*answers)

    def test_the_same_stage_reads_any_state_it_is_given(self, runtime: tuple[str, Precision]) -> None:
        """Now what the stage before has written, now a buffer, now another."""
        backend, wanted = opened("ranet_tiny", *runtime), expected("ranet_tiny")[1]
        buffers = [backend.buffer(FusedStage(1, 1), 3) for _ in range(2)]
        for turn, first in enumerate((0, 3, 6, 1, 2, 5)):
            state = backend.run(FusedStage(0, 0), filled(backend, IMAGES[first : first + 3]), 3)[1]
            if turn % 3:
                backend.copy_rows(state, None, buffers[turn % 2], 0)
                state = buffers[turn % 2]
            logits, _ = backend.run(FusedStage(1, 1), state, 3)
            assert_close(logits, wanted[first : first + 3], runtime[1])


class TestRows:
    def test_a_buffer_has_room_for_the_state(self, name: str, runtime: tuple[str, Precision]) -> None:
        backend = opened(name, *runtime)
        state = filled(backend, IMAGES[:3])
        for k in range(backend.facts.num_exits):
            stage = FusedStage(k, k)
            for size in (1, 3, 20):
                buffer = backend.buffer(stage, size)
                assert [array.shape[1:] for array in buffer] == [array.shape[1:] for array in state]
                assert [array.dtype for array in buffer] == [array.dtype for array in state]
                assert {len(array) for array in buffer} == {size}
            state = backend.run(stage, state, 3)[1]

    @settings(max_examples=settings().max_examples // 3)
    @given(
        rows=st.none() | st.lists(st.integers(0, 2), min_size=1, max_size=4), at=st.integers(0, 3), seed=st.integers(0)
    )
    def test_rows_are_copied_to_where_they_belong(
        self, runtime: tuple[str, Precision], rows: list[int] | None, at: int, seed: int
    ) -> None:
        backend = opened("isc_msdnet_tiny", *runtime)
        images = np.random.default_rng(seed % 2**32).standard_normal((3, 3, 32, 32), dtype=np.float32)
        _, source = backend.run(FusedStage(0, 0), filled(backend, images), 3)
        before = [values(array).copy() for array in source]
        target = backend.buffer(FusedStage(1, 1), 8)
        backend.copy_rows(source, np.array([0, 1, 2, 0, 1, 2, 0, 1]), target, 0)  # all of it has some content
        wanted = [values(array).copy() for array in target]
        chosen = [0, 1, 2] if rows is None else rows
        for array, given_rows in zip(wanted, before, strict=True):
            for place, row in enumerate(chosen):
                array[at + place] = given_rows[row]
        backend.copy_rows(source, None if rows is None else np.array(rows), target, at)
        for array, wanted_rows in zip(target, wanted, strict=True):
            np.testing.assert_array_equal(values(array), wanted_rows)
        for array, same in zip(source, before, strict=True):
            np.testing.assert_array_equal(values(array), same)

    @pytest.mark.parametrize("rows", [None, [2, 0]])
    def test_images_may_lie_in_any_order_and_precision(
        self, runtime: tuple[str, Precision], rows: list[int] | None
    ) -> None:
        backend = opened("msdnet_tiny", *runtime)
        chosen = [0, 1, 2] if rows is None else rows
        given_rows = None if rows is None else np.array(rows)
        wanted = filled(backend, IMAGES[:3][chosen])[0]
        for images in (
            IMAGES[:3].astype(np.float64),
            np.ascontiguousarray(IMAGES[:3].transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2),
            IMAGES[2::-1][::-1],
        ):
            buffer = backend.buffer(FusedStage(0, 0), sized(backend, len(chosen)))
            backend.copy_rows((images,), given_rows, buffer, 0)
            np.testing.assert_array_equal(values(buffer[0])[: len(chosen)], values(wanted)[: len(chosen)])


class TestOpenVino:
    def test_it_returns_the_same_arrays_again(self) -> None:
        """So that the next stage has nothing to do before it starts."""
        backend = opened("ranet_tiny", "openvino", "float32")
        buffer = filled(backend, IMAGES[:3])
        once = backend.run(FusedStage(0, 0), buffer, 3)[1]
        further = backend.run(FusedStage(1, 1), once, 3)[1]
        backend.copy_rows((IMAGES[3:6],), None, buffer, 0)
        assert backend.run(FusedStage(0, 0), buffer, 3)[1] is once
        logits, again = backend.run(FusedStage(1, 1), once, 3)
        assert again is further
        assert_close(logits, expected("ranet_tiny")[1, 3:6], "float32")

    def test_it_writes_where_the_next_stage_reads(self) -> None:
        """The maps lie channels last, in the precision of the computation, and where vectors are read at once."""
        backend = opened("msdnet_tiny", "openvino", "float32")
        _, state = backend.run(FusedStage(0, 0), filled(backend, IMAGES[:3]), 3)
        specs = graphs("msdnet_tiny").graph(FusedStage(0, 0)).after
        assert [array.shape for array in state] == [(3, *spec.shape[1:], spec.shape[0]) for spec in specs]
        assert all(array.flags.c_contiguous and array.ctypes.data % 64 == 0 for array in state)
        with torch.no_grad():
            wanted = network("msdnet_tiny").stem(torch.from_numpy(IMAGES[:3]))[0].numpy()
        same = backend.run(FusedStage(0, 0), filled(backend, IMAGES[:3]), 3)[1][0]
        np.testing.assert_allclose(same.transpose(0, 3, 1, 2), wanted, rtol=0, atol=FLOAT32 * abs(wanted).max())

    @pytest.mark.skipif(not BFLOAT16, reason="this CPU has no bfloat16")
    def test_bfloat16_maps_are_the_upper_halves_of_float32(self) -> None:
        backend = opened("msdnet_tiny", "openvino", "bfloat16")
        _, state = backend.run(FusedStage(0, 0), filled(backend, IMAGES[:3]), 3)
        assert {array.dtype for array in state} == {np.dtype(np.uint16)}
        wanted = opened("msdnet_tiny", "openvino", "float32").run(FusedStage(0, 0), filled(backend, IMAGES[:3]), 3)[1]
        for half, whole in zip(state, wanted, strict=True):
            found = (half.astype(np.uint32) << 16).view(np.float32)
            np.testing.assert_allclose(found, whole, rtol=0, atol=0.03 * abs(whole).max())

    @pytest.mark.parametrize("precision", ["float32", pytest.param("bfloat16", marks=BACKENDS[-1].marks)])
    def test_images_may_be_a_part_of_a_state(self, precision: Precision) -> None:
        images = np.random.default_rng(0).standard_normal((2, 3, 8, 8), dtype=np.float32)
        with torch.no_grad():
            wanted = thrifty()(torch.from_numpy(images)).numpy()
        backend = OpenVinoBackend(NetworkGraphs(thrifty()), precision=precision, batch_sizes=[2])
        buffer = filled(backend, images)
        first, state = backend.run(FusedStage(0, 0), buffer, 2)
        assert state[0] is buffer[0]
        second, _ = backend.run(FusedStage(1, 1), state, 2)
        assert_close(np.stack([first, second]), wanted, precision)

    def test_the_ladder_of_sizes_is_in_order(self) -> None:
        assert OpenVinoBackend(graphs("msdnet_tiny"), batch_sizes=[8, 1, 8]).fixed_sizes == (1, 8)
        assert OpenVinoBackend(graphs("msdnet_tiny")).fixed_sizes == (1, 2, 4, 8, 16, 32, 64)

    def test_bfloat16_is_refused_where_the_cpu_has_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Old:
            def get_property(self, *_: str) -> list[str]:
                return ["FP32", "INT8"]

        monkeypatch.setattr("ranet.inference.runtimes.openvino_backend.openvino_core", Old)
        with pytest.raises(UserError, match="does not compute in bfloat16; use precision=float32"):
            OpenVinoBackend(graphs("msdnet_tiny"), precision="bfloat16")


def test_onnxruntime_refuses_bfloat16() -> None:
    with pytest.raises(UserError, match="does not compute in bfloat16 on CPUs; use precision=float32, or"):
        OnnxRuntimeBackend(graphs("msdnet_tiny"), precision="bfloat16")


@pytest.mark.parametrize(
    ("backend", "package", "extra"),
    [(OnnxRuntimeBackend, "onnxruntime", "onnx"), (OpenVinoBackend, "openvino", "openvino")],
)
def test_a_missing_runtime_is_named(backend: Any, package: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        UserError, match=rf'needs the package {package}, which is not there; pip install "ranet\[{extra}\]"'
    ):
        backend(graphs("msdnet_tiny"))


class OneFile:
    """A source whose only graph is in a file."""

    facts = NetworkFacts(1, 10, 8, True, (0,), "0" * 16)

    def __init__(self, path: Path) -> None:
        self.path = path

    def graph(self, stage: FusedStage) -> StageGraph:
        return StageGraph(self.path, (TensorSpec("images", (3, 8, 8)),), ("images",), "logits_0", ())


@pytest.mark.parametrize("backend", [OnnxRuntimeBackend, OpenVinoBackend])
@pytest.mark.parametrize("content", [None, b"", b"no graph", bytes(200)])
def test_a_file_that_is_no_graph_is_named(backend: Any, content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "stage_1.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"stage_1\.onnx is not an ONNX graph that can be read; export it again"):
        backend(OneFile(path)).run(FusedStage(0, 0), (np.zeros((1, 3, 8, 8), dtype=np.float32),), 1)


def test_graphs_are_read_from_files_too(tmp_path: Path) -> None:
    source = NetworkGraphs(thrifty())

    class Files:
        facts = source.facts

        def graph(self, stage: FusedStage) -> StageGraph:
            graph = source.graph(stage)
            path = tmp_path / f"{stage.first}_{stage.last}.onnx"
            assert isinstance(graph.model, bytes)
            path.write_bytes(graph.model)
            return graph._replace(model=path)

    images = np.random.default_rng(0).standard_normal((2, 3, 8, 8), dtype=np.float32)
    with torch.no_grad():
        wanted = thrifty()(torch.from_numpy(images)).numpy()
    for backend in (OnnxRuntimeBackend(Files()), OpenVinoBackend(Files(), batch_sizes=[2])):
        assert_close(backend.run(FusedStage(0, 1), filled(backend, images), 2)[0], wanted[1], "float32")


def test_they_are_there_without_torch() -> None:
    code = """
import sys
sys.modules.update(dict.fromkeys(["torch", "torchvision", "onnx", "onnxscript", "matplotlib"]))
import ranet.inference.runtimes.onnxruntime_backend, ranet.inference.runtimes.openvino_backend
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_signals_arrive_when_engines_are_gone(tmp_path: Path) -> None:
    """Cores of OpenVINO that end in the order in which they began leave a stack for signals that is gone."""
    source = NetworkGraphs(thrifty())
    stage = FusedStage(0, 1)
    (tmp_path / "source").write_bytes(pickle.dumps((source.facts, source.graph(stage))))
    code = """
import faulthandler, gc, pickle, signal, sys
from types import SimpleNamespace
from ranet.inference.stages.fused_stages import FusedStage
from ranet.inference.runtimes.openvino_backend import OpenVinoBackend
faulthandler.enable()  # handlers of Python's run on a stack of their own then
facts, graph = pickle.load(open(sys.argv[1], "rb"))
stage, backends = FusedStage(0, 1), []
for _ in range(2):
    backend = OpenVinoBackend(SimpleNamespace(facts=facts, graph=lambda stage: graph), batch_sizes=[2])
    backend.run(stage, backend.buffer(stage, 2), 2)
    backends.append(backend)
    del backend
while backends:
    del backends[0]
    gc.collect()
signal.signal(signal.SIGTERM, lambda *_: print("it arrives"))
signal.raise_signal(signal.SIGTERM)
"""
    run = [sys.executable, "-c", code, str(tmp_path / "source")]
    assert subprocess.run(run, check=True, capture_output=True, text=True).stdout == "it arrives\n"


def test_a_wrong_number_of_arrays_is_noticed() -> None:
    array = np.zeros((2, 3))
    with pytest.raises(ValueError, match="shorter"):
        copy_rows((array, array), None, (array,), 0)
