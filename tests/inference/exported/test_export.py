"""Exporting: the folder answers what the network answers, without PyTorch, and is whole or not there."""

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Collection
from importlib.metadata import version
from math import inf
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import ranet.inference.exported.export as export_module
from ranet import ExitPolicy, InlineCollaboration, StagedNetwork, UserError, create_network, measure_costs
from ranet.images.preprocessing import Preprocessing
from ranet.inference.exported.export import export_engine, needed_stages
from ranet.inference.exported.folder import ExportedFolder
from ranet.inference.graphs.of_network import NetworkGraphs
from ranet.inference.stages.fused_stages import FusedStage, chain_through, fused_stages, reachable_cuts, used_exits
from ranet.models import network_fingerprint
from ranet.support.records import checksum
from tests.inference.networks import FLOAT32

SMALL = {"blocks": 4, "base": 1, "step": 1, "channels": 4, "growth": 4, "num_classes": 7}
FACTORS = {"growth_factors": [1, 2], "bottleneck_factors": [1, 2]}
NAMES = [f"class {i}" for i in range(7)]
PREPROCESSING = Preprocessing(32, 37, (0.5, 0.4, 0.3), (0.2, 0.25, 0.5)).to_dict()


def made(collaboration: bool = False) -> StagedNetwork:
    """A network of four exits whose batch normalisation does something."""
    torch.manual_seed(0)
    network = create_network("msdnet", **SMALL, **FACTORS)
    if collaboration:
        network = InlineCollaboration(network)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return network.eval()


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def network() -> StagedNetwork:
    return made()


@pytest.fixture(scope="module")
def folder(network: StagedNetwork, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All stages, and the fused ones of a policy that does not use its second exit."""
    path = tmp_path_factory.mktemp("exported") / "engine"
    policy = ExitPolicy((0.9, inf, 0.5), metadata={"network": {"fingerprint": network_fingerprint(network)}})
    written = export_engine(
        network, policy, path, all_exits=True, preprocessing=PREPROCESSING, classes=NAMES, cache=cache
    )
    assert written.difference is not None
    assert written.difference < FLOAT32
    return path


def some_images(batch: int) -> np.ndarray:
    return np.random.default_rng(batch).normal(size=(batch, 3, 32, 32)).astype(np.float32)


def run_chain(export: ExportedFolder, stages: Collection[FusedStage], images: np.ndarray) -> dict[int, np.ndarray]:
    """The logits behind each stage of a chain, by ONNX Runtime alone."""
    state, logits = [images], {}
    for stage in stages:
        graph = export.graph(stage)
        assert [spec.shape for spec in graph.before] == [array.shape[1:] for array in state]
        known = dict(zip([spec.name for spec in graph.before], state, strict=True))
        session = onnxruntime.InferenceSession(str(graph.model), providers=["CPUExecutionProvider"])
        outputs = [output.name for output in session.get_outputs()]
        assert {one.name for one in session.get_inputs()} == set(graph.inputs)
        known.update(zip(outputs, session.run(outputs, {name: known[name] for name in graph.inputs}), strict=True))
        logits[stage.last] = known[graph.logits]
        state = [known[spec.name] for spec in graph.after]
    return logits


def assert_same(logits: dict[int, np.ndarray], network: StagedNetwork, images: np.ndarray) -> None:
    with torch.no_grad():
        expected = network(torch.from_numpy(images)).numpy()
    for k, found in logits.items():
        np.testing.assert_allclose(found, expected[k], rtol=0, atol=FLOAT32 * np.abs(expected[k]).max())


def count(export: ExportedFolder, stage: FusedStage, kind: str) -> int:
    graph = onnx.load(export.graph(stage).model).graph
    return sum(node.op_type == kind for node in graph.node)


class TestTheFolder:
    def test_it_says_what_the_network_is(self, network: StagedNetwork, folder: Path) -> None:
        export = ExportedFolder(folder)
        assert export.facts == NetworkGraphs(network).facts
        assert export.facts[:4] == (4, 7, 32, True)
        assert export.facts.fingerprint == network_fingerprint(network)
        assert [policy.thresholds for policy in export.policies] == [ExitPolicy((0.9, inf, 0.5)).thresholds]
        assert (export.classes, export.preprocessing) == (tuple(NAMES), Preprocessing.from_dict(PREPROCESSING))
        profile = measure_costs(network)
        assert export.costs().cumulative().tolist() == profile.lazy_macs_per_exit
        assert export.costs("paper_ops").cumulative().tolist() == profile.paper_ops_per_exit
        software = export.manifest.software
        assert software["torch"] == version("torch")
        assert software["onnx"] == onnx.__version__
        model = onnx.load(folder / "stage_1.onnx")
        assert software["opset"] == str({each.domain: each.version for each in model.opset_import}[""])

    def test_it_holds_these_files_and_no_others(self, folder: Path) -> None:
        stages = [f"stage_{k}.onnx" for k in range(1, 5)] + ["stages_2-3.onnx"]
        golden = ["golden.npz", "golden.png"]
        assert sorted(path.name for path in folder.iterdir()) == [*golden, "manifest.json", "policy.json", *stages]
        assert not list(folder.parent.glob(".*"))
        for name in stages:
            onnx.checker.check_model(onnx.load(folder / name), full_check=True)

    @pytest.mark.parametrize("batch", [1, 5])
    @pytest.mark.parametrize("exits", [[0, 2, 3], [0, 1, 2, 3], [3], [1, 2]])
    def test_its_stages_give_the_logits_of_the_network(
        self, network: StagedNetwork, folder: Path, exits: list[int], batch: int
    ) -> None:
        export, images = ExportedFolder(folder), some_images(batch)
        logits = run_chain(export, export.stages_for(exits), images)
        assert set(exits) <= set(logits)
        assert_same(logits, network, images)

    def test_a_fused_stage_has_no_head_for_the_exit_that_is_not_used(
        self, network: StagedNetwork, folder: Path
    ) -> None:
        export = ExportedFolder(folder)
        inside_head = sum(isinstance(module, nn.Conv2d) for module in network.heads[1].modules())
        assert inside_head > 0
        one, other = (count(export, FusedStage(k, k), "Conv") for k in (1, 2))
        assert count(export, FusedStage(1, 2), "Conv") == one + other - inside_head
        assert count(export, FusedStage(1, 2), "Gemm") == 1
        assert not any(count(export, stage, "BatchNormalization") for stage in export.stages)

    @pytest.mark.slow
    def test_exits_that_build_on_each_other_stay_together(self, cache: Path, tmp_path: Path) -> None:
        network = made(collaboration=True)
        policies = [ExitPolicy((inf, 0.5, inf)), ExitPolicy((0.5, -inf, inf))]
        written = export_engine(network, policies, tmp_path / "engine", cache=cache)
        assert written.difference is not None
        assert written.difference < FLOAT32
        export, images = written.folder, some_images(3)
        assert not export.facts.heads_can_be_skipped
        for stages in (export.stages_for([1, 3]), export.stages_for([0, 1])):
            assert_same(run_chain(export, stages, images), network, images)
        # The logits of exit 2 come in, and those of exit 3 are needed on the way to exit 4.
        assert export.graph(FusedStage(2, 3)).before[-1].shape == (7,)
        assert count(export, FusedStage(2, 3), "Gemm") > 2

    def test_several_policies_share_their_stages(
        self, network: StagedNetwork, folder: Path, cache: Path, tmp_path: Path
    ) -> None:
        policies = [ExitPolicy((0.9, inf, 0.5)), ExitPolicy((inf, 0.7, inf)), ExitPolicy((0.8, inf, 0.4), "margin")]
        export = export_engine(network, policies, tmp_path / "engine", cache=cache).folder
        assert list(export.manifest.policies) == [f"policies/policy_{i}.json" for i in (1, 2, 3)]
        assert ExportedFolder(tmp_path / "engine").policies == policies
        assert export.facts.cuts == (0, 1, 2, 3)
        for policy in policies:
            for cap in export.facts.cuts:
                assert export.stages_for(used_exits(policy, cap))[-1].last == cap


THRESHOLDS = st.lists(st.sampled_from([0.5, inf, inf, -inf]), min_size=5, max_size=5)


@given(st.lists(st.builds(ExitPolicy, THRESHOLDS.map(tuple)), min_size=1, max_size=3), st.booleans(), st.data())
def test_every_policy_runs_fused_and_can_be_capped_wherever_a_stage_ends(
    policies: list[ExitPolicy], all_exits: bool, data: st.DataObject
) -> None:
    stages = needed_stages(policies, all_exits)
    cuts = reachable_cuts(stages)
    assert set(cuts) == (set(range(6)) if all_exits else {k for policy in policies for k in used_exits(policy)})
    for policy in policies:
        assert chain_through(used_exits(policy), stages) == fused_stages(used_exits(policy))
        for cap in cuts:
            chain = chain_through(used_exits(policy, cap), stages)
            assert chain is not None
            assert chain[-1].last <= cap
    later = sorted(data.draw(st.sets(st.sampled_from(cuts), min_size=1)))
    assert chain_through(later, stages) is not None
    assert chain_through(cuts, stages) == fused_stages(cuts)


class TestWithoutTorch:
    @pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
    def test_a_fresh_interpreter_gives_the_same_logits(
        self, network: StagedNetwork, folder: Path, tmp_path: Path, runtime: str
    ) -> None:
        pytest.importorskip(runtime)
        images = some_images(4)
        np.save(tmp_path / "images.npy", images)
        code = """
import sys
sys.modules.update(dict.fromkeys(["torch", "torchvision", "onnx", "matplotlib"]))
import numpy as np
from ranet.inference.exported.folder import ExportedFolder
folder, runtime = sys.argv[1:]
if runtime == "openvino":
    from ranet.inference.runtimes.openvino_backend import OpenVinoBackend as Backend
else:
    from ranet.inference.runtimes.onnxruntime_backend import OnnxRuntimeBackend as Backend
images = np.load("images.npy")
export = ExportedFolder(folder)
backend = Backend(export)
stages = export.stages_for([0, 2, 3])
state = backend.buffer(stages[0], len(images))
backend.copy_rows((images,), None, state, 0)
for stage in stages:
    logits, state = backend.run(stage, state, len(images))
    np.save(f"logits_{stage.last}.npy", logits[:len(images)])
"""
        subprocess.run([sys.executable, "-c", code, folder, runtime], check=True, cwd=tmp_path)
        assert_same({k: np.load(tmp_path / f"logits_{k}.npy") for k in (0, 2, 3)}, network, images)


class TestTheTarget:
    def test_an_earlier_export_is_replaced_whole(
        self, network: StagedNetwork, folder: Path, cache: Path, tmp_path: Path
    ) -> None:
        target = tmp_path / "some" / "where"
        for policies, names in (
            ([ExitPolicy((0.5,) * 3), ExitPolicy.only(3, 4)], {"stage_1.onnx", "stages_1-4.onnx", "policies"}),
            (ExitPolicy.only(1, 4), {"stages_1-2.onnx", "policy.json", "manifest.json"}),
        ):
            export_engine(network, policies, target, cache=cache)
            there = {path.name for path in target.iterdir()}
            assert names <= there
        assert there == names
        assert [path.name for path in target.parent.iterdir()] == ["where"]

    def test_one_of_an_earlier_version_is_replaced(
        self, network: StagedNetwork, folder: Path, cache: Path, tmp_path: Path
    ) -> None:
        target = tmp_path / "engine"
        shutil.copytree(folder, target)
        content = json.loads((target / "manifest.json").read_text())
        content |= {"version": 1, "preprocessing": {"image_size": 32}}
        del content["golden"], content["checksum"]
        for name in ("golden.png", "golden.npz"):
            (target / name).unlink()
        (target / "manifest.json").write_text(json.dumps({**content, "checksum": checksum(content)}))
        with pytest.raises(UserError, match="has version 1 and this ranet reads 3: export the network again"):
            ExportedFolder(target)
        export_engine(network, ExitPolicy.only(1, 4), target, cache=cache)
        assert sorted(path.name for path in target.iterdir()) == ["manifest.json", "policy.json", "stages_1-2.onnx"]

    def test_what_is_no_export_stays_as_it_is(
        self, network: StagedNetwork, folder: Path, cache: Path, tmp_path: Path
    ) -> None:
        def refused(target: Path, message: str) -> None:
            with pytest.raises(UserError, match=message):
                export_engine(network, ExitPolicy.only(1, 4), target, cache=cache)

        (tmp_path / "file").write_text("mine")
        refused(tmp_path / "file", "is a file; choose another folder")
        (tmp_path / "folder").mkdir()
        (tmp_path / "folder" / "manifest.json").write_text("mine")
        refused(tmp_path / "folder", "is not empty and is no earlier export; choose another one")
        export_engine(network, ExitPolicy.only(1, 4), tmp_path / "export", cache=cache)
        (tmp_path / "export" / "predictions.csv").write_text("mine")
        refused(tmp_path / "export", "also holds 'predictions.csv', which would be lost; move it")
        (tmp_path / "empty").mkdir()
        export_engine(network, ExitPolicy.only(1, 4), tmp_path / "empty", cache=cache)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "export", "file", "folder"]
        mine = [tmp_path / "file", tmp_path / "folder" / "manifest.json", tmp_path / "export" / "predictions.csv"]
        assert all(path.read_text() == "mine" for path in mine)

    @pytest.mark.parametrize(
        ("policies", "options", "message"),
        [
            ([], {}, "An export needs a policy"),
            (ExitPolicy((0.5,) * 4), {}, "is for 5 exits and the network has 4: calibrate a policy for this one"),
            (ExitPolicy((0.5,) * 3, metadata={"network": {"fingerprint": "0" * 16}}), {}, "another network"),
            (ExitPolicy((0.5,) * 3), {"classes": ["a", "b"]}, "2 class names were given for .* 7 classes"),
            (
                ExitPolicy((0.5,) * 3),
                {"preprocessing": Preprocessing(32, 37, (0.5,), (0.2,)).to_dict()},
                r"The preprocessing prepares images of shape \(1, 32, 32\) for a network that reads \(3, 32",
            ),
            (ExitPolicy((0.5,) * 3), {"preprocessing": {"image_size": 32}}, "A preprocessing must say its"),
            ("nowhere.json", {}, "does not exist"),
        ],
    )
    def test_mistakes_are_said_and_nothing_is_written(
        self, network: StagedNetwork, folder: Path, cache: Path, tmp_path: Path, policies, options, message
    ) -> None:
        with pytest.raises(UserError, match=message):
            export_engine(network, policies, tmp_path / "engine", cache=cache, **options)
        assert not list(tmp_path.iterdir())

    def test_graphs_that_say_something_else_are_not_kept(
        self, network: StagedNetwork, folder: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        target = tmp_path / "engine"
        export_engine(network, ExitPolicy.only(1, 4), target, cache=cache)
        before = (target / "manifest.json").read_bytes()
        other = made()
        with torch.no_grad():
            other.readouts[1].bias[0] += 0.1
        graphs = NetworkGraphs(network, cache / "graphs")
        monkeypatch.setattr(export_module, "NetworkGraphs", lambda *_: graphs)
        with pytest.raises(UserError, match=r"differ from the network by .* of the largest logit"):
            export_engine(other, ExitPolicy.only(1, 4), target)
        with torch.no_grad():
            other.readouts[1].bias[0] = float("nan")
        with pytest.raises(UserError, match="differ from the network by nan"):
            export_engine(other, ExitPolicy.only(1, 4), target)
        assert (target / "manifest.json").read_bytes() == before
        assert [path.name for path in tmp_path.iterdir()] == ["engine"]

    @pytest.mark.slow
    def test_one_that_is_killed_halfway_leaves_the_earlier_one(
        self, network: StagedNetwork, folder: Path, cache: Path, tmp_path: Path
    ) -> None:
        """Nothing of the new one is seen under its name, and the next one succeeds."""
        torch.save(network, tmp_path / "network.pt")
        code = """
import os, signal, sys, torch
import ranet.inference.exported.export as export
from ranet import ExitPolicy
die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
network = torch.load("network.pt", weights_only=False)
export.Manifest.write = die
export.export_engine(network, ExitPolicy.only(2, 4), sys.argv[2], cache=sys.argv[1])
"""
        export_engine(network, ExitPolicy.only(1, 4), tmp_path / "engine", cache=cache)
        killed = subprocess.run([sys.executable, "-c", code, cache, "engine"], cwd=tmp_path)
        assert killed.returncode == -signal.SIGKILL
        assert ExportedFolder(tmp_path / "engine").policies == [ExitPolicy.only(1, 4)]
        assert list(tmp_path.glob(".engine.*.partial"))
        written = export_engine(network, ExitPolicy.only(2, 4), tmp_path / "engine", cache=cache)
        assert written.folder.policies == [ExitPolicy.only(2, 4)]
        assert not list(tmp_path.glob(".*")), "what the killed one left is gone"

    def test_one_that_was_killed_while_it_replaced_the_earlier_one(
        self, network: StagedNetwork, folder: Path, cache: Path, tmp_path: Path
    ) -> None:
        target = tmp_path / "engine"
        export_engine(network, ExitPolicy.only(1, 4), target, cache=cache)
        (target / "predictions.csv").write_text("mine")
        target.rename(tmp_path / f".engine.{2**40}.earlier")  # no process has this number
        with pytest.raises(UserError, match=r"also holds 'predictions.csv', which would be lost"):
            export_engine(network, ExitPolicy.only(2, 4), target, cache=cache)
        assert (target / "predictions.csv").read_text() == "mine"

    def test_one_that_fails_halfway_leaves_nothing(
        self, network: StagedNetwork, folder: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: object) -> None:
            assert list(tmp_path.glob(".engine.*.partial/*.onnx")), "it is halfway"
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(export_module.Manifest, "write", full)
        with pytest.raises(OSError, match="No space left"):
            export_engine(network, ExitPolicy.only(1, 4), tmp_path / "engine", cache=cache)
        assert not list(tmp_path.iterdir())

    def test_the_working_folder_is_not_pulled_away(
        self, network: StagedNetwork, folder: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "engine" / "inside").mkdir(parents=True)
        for place in (tmp_path / "engine", tmp_path / "engine" / "inside"):
            monkeypatch.chdir(place)
            with pytest.raises(UserError, match="is where this process works; name another"):
                export_engine(network, ExitPolicy.only(1, 4), tmp_path / "engine", cache=cache)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["msdnet_imagenet_4", "ranet_imagenet_budgeted_1"])
def test_networks_for_imagenet_are_exported_and_run(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = create_network(name).eval()
    policy = ExitPolicy((0.5, inf, *(0.5,) * (network.num_exits - 3)))
    written = export_engine(network, policy, tmp_path / "engine", cache=tmp_path / "cache")
    assert written.difference is not None
    assert written.difference < FLOAT32
    export, stages = written.folder, written.folder.stages_for(used_exits(policy))
    images = np.random.default_rng(0).normal(size=(2, 3, 224, 224)).astype(np.float32)
    assert_same(run_chain(export, stages, images), network, images)
    pytest.importorskip("openvino")
    from ranet.inference.runtimes.openvino_backend import OpenVinoBackend

    backend = OpenVinoBackend(export, batch_sizes=(2,))
    state = backend.buffer(stages[0], 2)
    backend.copy_rows((images,), None, state, 0)
    logits = {}
    for stage in stages:
        found, state = backend.run(stage, state, 2)
        logits[stage.last] = found.copy()
    assert_same(logits, network, images)
