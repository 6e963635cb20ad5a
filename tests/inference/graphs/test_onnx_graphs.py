"""One export, and all fused stages cut out of it: what is in them, and that they are kept and never stale."""

import copy
import sys
import warnings
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from ranet import StagedNetwork, UserError
from ranet.inference.graphs import of_network as onnx_graphs
from ranet.inference.graphs.of_network import NetworkGraphs
from ranet.inference.stages.fused_stages import FusedStage
from ranet.models import LinearHeads
from ranet.models.papers.layers import ExitHead
from ranet.support.shapes import TensorSpec
from tests.inference.networks import FLOAT32, make_of_three_exits, trained_looking

NAMES = ("msdnet_tiny", "ranet_tiny", "isc_msdnet_tiny")
WHOLE = FusedStage(0, 1)


class Thrifty(LinearHeads):
    """Two exits, the second of which reads the images themselves and what the first one made."""

    def __init__(self) -> None:
        super().__init__(num_classes=4, image_size=8)
        self.convolution = nn.Conv2d(3, 5, 3, padding=1)
        self.heads = nn.ModuleList([ExitHead(5, 4, "cifar"), ExitHead(8, 4, "cifar")])

    def stem(self, images: Tensor) -> tuple[Tensor, ...]:
        return (images,)

    def advance(self, k: int, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (state[0], self.convolution(state[0])) if k == 0 else (torch.cat(state, dim=1),)

    def features(self, k: int, state: tuple[Tensor, ...]) -> Tensor:
        return self.heads[k].features(state[-1])


@cache
def make_thrifty() -> StagedNetwork:
    torch.manual_seed(0)
    return trained_looking(Thrifty(), 0)


def stages(exits: int) -> list[FusedStage]:
    return [FusedStage(first, last) for first in range(exits) for last in range(first, exits)]


def operators(model: bytes | Path) -> Counter[str]:
    assert isinstance(model, bytes)
    return Counter(node.op_type for node in onnx.load_from_string(model).graph.node)


def dimensions(value: onnx.ValueInfoProto) -> list[str | int]:
    return [size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim]


def answer(graph: bytes | Path, inputs: dict[str, np.ndarray], output: str) -> np.ndarray:
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    return session.run([output], inputs)[0]


@pytest.fixture(scope="module", params=NAMES)
def network(request: pytest.FixtureRequest) -> StagedNetwork:
    return make_of_three_exits(request.param)


@pytest.fixture(scope="module")
def graphs(network: StagedNetwork) -> NetworkGraphs:
    return NetworkGraphs(network)  # in the folder of the test session: others find it there


@pytest.fixture(scope="module")
def thrifty() -> StagedNetwork:
    return make_thrifty()


@pytest.fixture(scope="module")
def folder(thrifty: StagedNetwork, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where its graph is kept."""
    folder = tmp_path_factory.mktemp("graphs")
    NetworkGraphs(thrifty, folder).graph(WHOLE)
    assert len(list(folder.iterdir())) == 1
    return folder


@pytest.fixture
def exports(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[StagedNetwork]:
    """The networks that are exported from now on; what comes out is always the same, and there at once."""
    asked: list[StagedNetwork] = []
    (path,) = folder.iterdir()
    model = path.read_bytes()[32:]

    def export(network: StagedNetwork) -> bytes:
        asked.append(network)
        return model

    monkeypatch.setattr(onnx_graphs, "_export", export)
    return asked


class TestFusedStages:
    def test_every_one_is_a_graph_of_its_own_with_any_batch(self, graphs: NetworkGraphs) -> None:
        for stage in stages(graphs.facts.num_exits):
            graph = graphs.graph(stage)
            assert isinstance(graph.model, bytes)
            model = onnx.load_from_string(graph.model)
            onnx.checker.check_model(model, full_check=True)
            before, after = dict(graph.before), dict(graph.after)
            assert tuple(value.name for value in model.graph.input) == graph.inputs
            assert set(graph.inputs) <= set(before)
            outputs = [value.name for value in model.graph.output]
            # What passes by is in no graph.
            assert sorted(outputs) == sorted({graph.logits, *(name for name in after if name not in before)})
            shapes = {**before, **after, graph.logits: (graphs.facts.num_classes,)}
            for value in [*model.graph.input, *model.graph.output]:
                assert dimensions(value) == ["batch", *shapes[value.name]]

    def test_one_ends_as_the_next_one_starts(self, graphs: NetworkGraphs) -> None:
        exits = graphs.facts.num_exits
        of = {stage: graphs.graph(stage) for stage in stages(exits)}
        shape = graphs.facts.input_shape
        for stage, graph in of.items():
            if stage.first == 0:
                assert graph.before == (TensorSpec("images", shape),)
            if stage.last == exits - 1:
                assert graph.after == ()
            for other in of:
                if other.first == stage.last + 1:
                    assert graph.after == of[other].before
        if not graphs.facts.heads_can_be_skipped:
            assert all(of[stage].after[-1].name == of[stage].logits for stage in of if stage.last < exits - 1)

    def test_the_state_is_that_of_the_network(self, graphs: NetworkGraphs, network: StagedNetwork) -> None:
        """Shapes, and which tensors pass by, as the network itself runs; MSDNets are exported lazy."""
        network = copy.deepcopy(network)
        inner = getattr(network, "network", network)
        if hasattr(inner, "lazy"):
            inner.lazy = True
        with torch.no_grad():
            state = network.stem(torch.zeros(2, 3, 32, 32))
            for k in range(network.num_exits - 1):
                before, state = state, network.advance(k, state)
                state = network.carry(k, state, network.answer(k, state))
                graph = graphs.graph(FusedStage(k, k))
                assert [spec.shape for spec in graph.after] == [tuple(tensor.shape[1:]) for tensor in state]
                if k > 0:
                    passing = [any(tensor is other for other in before) for tensor in state]
                    assert [spec in graph.before for spec in graph.after] == passing

    def test_unused_heads_are_not_in_it(self, graphs: NetworkGraphs) -> None:
        exits = graphs.facts.num_exits
        whole = operators(graphs._whole()._model.SerializeToString())
        alone = [operators(graphs.graph(FusedStage(k, k)).model) for k in range(exits)]
        fused = operators(graphs.graph(FusedStage(0, exits - 1)).model)
        # A head has two convolutions.
        assert sum((each["Conv"] for each in alone), 0) == whole["Conv"]
        skipped = exits - 1 if graphs.facts.heads_can_be_skipped else 0
        assert fused["Conv"] == whole["Conv"] - 2 * skipped

    def test_all_exits_answer_as_the_network(self, graphs: NetworkGraphs, network: StagedNetwork) -> None:
        images = np.random.default_rng(0).standard_normal((3, 3, 32, 32), dtype=np.float32)
        with torch.no_grad():
            expected = network(torch.from_numpy(images)).numpy()
        for k, logits in enumerate(expected):
            found = answer(graphs.graph(FusedStage(0, k)).model, {"images": images}, f"logits_{k}")
            np.testing.assert_allclose(found, logits, rtol=0, atol=FLOAT32 * abs(logits).max())

    def test_images_may_be_a_part_of_a_state(self, thrifty: StagedNetwork) -> None:
        graphs = NetworkGraphs(thrifty)
        first, second = graphs.graph(FusedStage(0, 0)), graphs.graph(FusedStage(1, 1))
        assert first.after == second.before == (("images", (3, 8, 8)), ("state_0_1", (5, 8, 8)))
        assert second.inputs == ("images", "state_0_1")


class TestTheCopy:
    def test_what_becomes_of_the_network_changes_nothing(self, thrifty: StagedNetwork, tmp_path: Path) -> None:
        network = copy.deepcopy(thrifty).train()
        images = torch.randn(2, 3, 8, 8)
        with torch.no_grad():
            expected = thrifty.forward_to(images, 1).numpy()
        graphs = NetworkGraphs(network, tmp_path)
        with torch.no_grad():
            network.readouts[1].bias += 1
        found = answer(graphs.graph(FusedStage(0, 1)).model, {"images": images.numpy()}, "logits_1")
        np.testing.assert_allclose(found, expected, rtol=0, atol=FLOAT32 * abs(expected).max())
        assert network.training
        # With its new weights it is another network.
        assert NetworkGraphs(network, tmp_path).graph(WHOLE) != graphs.graph(WHOLE)

    def test_its_weights_may_be_of_another_precision(self, thrifty: StagedNetwork, tmp_path: Path) -> None:
        network = copy.deepcopy(thrifty).double()
        images = torch.randn(2, 3, 8, 8)
        with torch.no_grad():
            expected = thrifty.forward_to(images, 0).numpy()
        graph = NetworkGraphs(network, tmp_path).graph(FusedStage(0, 0))
        found = answer(graph.model, {"images": images.numpy()}, "logits_0")
        np.testing.assert_allclose(found, expected, rtol=0, atol=FLOAT32 * abs(expected).max())


class TestTheCache:
    def test_a_network_is_exported_once(
        self, thrifty: StagedNetwork, folder: Path, exports: list[StagedNetwork]
    ) -> None:
        kept, fresh = NetworkGraphs(copy.deepcopy(thrifty), folder), NetworkGraphs(thrifty)
        for stage in stages(2):
            one, other = kept.graph(stage), fresh.graph(stage)
            assert one[1:] == other[1:]
            assert operators(one.model) == operators(other.model)
        assert exports == []

    @given(data=st.data())
    def test_a_damaged_file_is_as_good_as_none(self, thrifty: StagedNetwork, folder: Path, data: st.DataObject) -> None:
        asked = []
        (path,) = folder.iterdir()
        whole = path.read_bytes()
        place = data.draw(st.integers(0, len(whole) - 1))
        damaged = bytearray(whole)
        damaged[place] ^= data.draw(st.integers(1, 255))
        path.write_bytes(whole[:place] if data.draw(st.booleans()) else damaged)
        try:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(onnx_graphs, "_export", lambda network: asked.append(network) or whole[32:])
                NetworkGraphs(thrifty, folder).graph(FusedStage(1, 1))
                assert len(asked) == 1
                assert path.read_bytes() == whole, "it is written again"
                NetworkGraphs(thrifty, folder).graph(FusedStage(1, 1))
                assert len(asked) == 1
        finally:
            path.write_bytes(whole)

    def test_a_file_of_another_network_is_not_taken_for_it(
        self, thrifty: StagedNetwork, folder: Path, exports: list[StagedNetwork], tmp_path: Path
    ) -> None:
        other = copy.deepcopy(thrifty)
        with torch.no_grad():
            other.readouts[1].bias += 1
        NetworkGraphs(other, tmp_path).graph(WHOLE)
        (own,), (path,) = tmp_path.iterdir(), folder.iterdir()
        own.write_bytes(path.read_bytes())
        NetworkGraphs(other, tmp_path).graph(WHOLE)
        assert len(exports) == 2

    def test_a_folder_that_cannot_be_written_does_no_harm(
        self, thrifty: StagedNetwork, exports: list[StagedNetwork], tmp_path: Path
    ) -> None:
        (tmp_path / "file").write_text("in the way")
        graphs = NetworkGraphs(thrifty, tmp_path / "file")
        with pytest.warns(UserWarning, match=r"cannot be kept in .*file .*will be exported again next time"):
            graphs.graph(FusedStage(0, 0))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            graphs.graph(FusedStage(0, 1))
        assert len(exports) == 1


class TestWhatCannotBeExported:
    @pytest.mark.parametrize("package", ["onnx", "onnxscript"])
    def test_a_missing_package_is_named(
        self, thrifty: StagedNetwork, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(UserError, match=rf'package {package}, which is not there; pip install "ranet\[onnx\]"'):
            NetworkGraphs(thrifty, tmp_path).graph(FusedStage(0, 0))
        assert not list(tmp_path.iterdir())

    def test_a_network_that_looks_at_its_values(self, tmp_path: Path) -> None:
        class Undecided(Thrifty):
            def advance(self, k: int, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
                if state[0].sum() > 0:
                    state = tuple(-tensor for tensor in state)
                return super().advance(k, state)

        with pytest.raises(UserError, match="cannot export this Undecided as an ONNX graph, so use the torch backend"):
            NetworkGraphs(Undecided().eval(), tmp_path).graph(FusedStage(0, 0))
        assert not list(tmp_path.iterdir())
