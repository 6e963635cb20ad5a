"""From a trained network and its policies to a folder that answers without PyTorch."""

import json
import sys
from pathlib import Path

import pytest

from ranet.calibration import ExitPolicy, load_policy
from ranet.data.record import DataRecord
from ranet.inference.exported.folder import ExportedFolder
from ranet.training import load_trained
from tests.end_to_end.commands import SMALL, content, train
from tests.end_to_end.commands import ranet as command


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained network (run) and policies of it: for one budget (policy.json), and for two (calibration/policies)."""
    here = tmp_path_factory.mktemp("export")
    train(*SMALL, "evaluate=false", "run=run", folder=here)
    for budget, run in (("70%", "one"), ("[60%,80%]", "calibration")):
        output = ["alternatives=false", *(["output=policy.json"] if run == "one" else [])]
        outcome = command("calibrate", "checkpoint=run", f"budget={budget}", f"run={run}", *output, folder=here)
        assert outcome.status == 0, outcome.err
    ExitPolicy.only(1, 2).save(here / "last.json")
    return here


def export(folder: Path, *arguments: str) -> str:
    outcome = command("export", "checkpoint=run", *arguments, folder=folder)
    assert outcome.status == 0, outcome.err
    assert all(line.startswith("ranet: Exporting the MSDNet") for line in outcome.err.splitlines())
    return outcome.out


def test_the_folder_has_all_that_an_engine_needs(folder: Path) -> None:
    before = content(folder)
    out = export(folder, "policy=policy.json", "output=engine")
    assert "policy.json uses exits 1, 2 of 2." in out
    assert "In ONNX Runtime the logits of every stage are the network's to" in out
    assert "Written to engine: ranet predict engine=engine images=" in out
    made = {name: data for name, data in content(folder).items() if name not in before}
    golden = ("golden.npz", "golden.png")
    assert set(made) == {
        f"engine/{name}" for name in ("manifest.json", "policy.json", "stage_1.onnx", "stage_2.onnx", *golden)
    }
    for name in ("stage_1.onnx", "stage_2.onnx"):
        assert f"{name} " in out
        assert f"{len(made[f'engine/{name}']) / 1e3:,.0f}" in out
    engine = ExportedFolder(folder / "engine")
    assert engine.policies == [load_policy(folder / "policy.json")]
    assert engine.policies[0].metadata == load_policy(folder / "policy.json").metadata
    assert engine.classes == tuple("0123456789")
    assert engine.preprocessing is not None
    assert (engine.preprocessing.image_size, engine.preprocessing.mean) == (32, (0.16, 0.16, 0.16))
    assert engine.facts.num_exits == load_trained(folder / "run").network.num_exits
    trained = DataRecord.from_recipe(load_trained(folder / "run").recipe)
    assert trained is not None
    assert engine.manifest.data == trained.summary
    assert engine.manifest.data["digests"]["train"]
    assert str(folder) not in made["engine/manifest.json"].decode(), "the folder can be given away"


@pytest.mark.parametrize("policy", ["calibration", "[last.json,calibration/policies,policy.json]"])
@pytest.mark.slow
def test_several_policies(folder: Path, tmp_path: Path, policy: str) -> None:
    out = export(folder, f"policy={policy}", f"output={tmp_path / 'engine'}")
    policies = ExportedFolder(tmp_path / "engine").policies
    names = ["calibration/policies/policy_1.json", "calibration/policies/policy_2.json"]
    if policy != "calibration":
        names = ["last.json", *names, "policy.json"]
        assert "policies/policy_1.json uses exit 2 alone of 2." in out
    assert policies == [load_policy(folder / name) for name in names]


def test_all_exits_on_request(folder: Path, tmp_path: Path) -> None:
    for option, names in (
        ("false", ["stages_1-2.onnx"]),
        ("true", ["stage_1.onnx", "stage_2.onnx", "stages_1-2.onnx"]),
    ):
        export(folder, "policy=last.json", f"all_exits={option}", f"output={tmp_path / 'engine'}")
        assert sorted(path.name for path in (tmp_path / "engine").glob("*.onnx")) == names


def test_without_onnx_runtime_nothing_is_compared(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = sys.modules["importlib.util"].find_spec
    hidden = "onnxruntime"
    monkeypatch.setattr(
        "ranet.inference.exported.export.find_spec", lambda name: None if name == hidden else find(name)
    )
    out = export(folder, "policy=policy.json", f"output={tmp_path / 'engine'}")
    assert "Nothing was compared with the network, because ONNX Runtime is not installed" in out
    assert 'pip install "ranet[onnx]"' in out


def test_mistakes_are_said_and_nothing_is_written(folder: Path) -> None:
    policy = load_policy(folder / "policy.json")
    ExitPolicy(policy.thresholds, metadata={"network": {"fingerprint": "0" * 16}}).save(folder / "other.json")
    ExitPolicy((0.5, 0.5)).save(folder / "three.json")
    (folder / "mine").mkdir(exist_ok=True)
    (folder / "mine" / "thesis.tex").write_text("mine")
    (folder / "nothing").mkdir(exist_ok=True)
    before = content(folder)
    for arguments, message in (
        (["policy=policy.json", "output=new"], "add checkpoint=RUN"),
        (["checkpoint=run", "output=new"], "add policy=FILE"),
        (["checkpoint=run", "policy=policy.json"], "add output=FOLDER"),
        (["checkpoint=nowhere", "policy=policy.json", "output=new"], "no run folder or checkpoint file nowhere"),
        (["checkpoint=run", "policy=nowhere.json", "output=new"], "'nowhere.json' does not exist"),
        (["checkpoint=run", "policy=nothing", "output=new"], "The folder nothing holds no policy"),
        (["checkpoint=run", "policy=[]", "output=new"], "policy=[] names no policy"),
        (["checkpoint=run", "policy=other.json", "output=new"], "solved for another network"),
        (["checkpoint=run", "policy=three.json", "output=new"], "is for 3 exits and the network has 2"),
        (["checkpoint=run", "policy=policy.json", "output=mine"], "is not empty and is no earlier export"),
        (["checkpoint=run", "policy=policy.json", "output=run"], "is not empty and is no earlier export"),
        (["checkpoint=run", "policy=policy.json", "output=policy.json"], "is a file; choose another folder"),
        (["checkpoint=run", "policy=policy.json", "output=new", "all_exits=3"], "must be true or false"),
    ):
        outcome = command("export", *arguments, folder=folder)
        assert outcome.status == 1, arguments
        assert message in outcome.err
        assert len(outcome.err.strip().splitlines()) == 1
        assert content(folder) == before


def test_the_manifest_is_json_that_others_can_read(folder: Path, tmp_path: Path) -> None:
    export(folder, "policy=policy.json", f"output={tmp_path / 'engine'}")
    manifest = json.loads((tmp_path / "engine" / "manifest.json").read_text())
    assert [stage["file"] for stage in manifest["stages"]] == ["stage_1.onnx", "stage_2.onnx"]
    assert manifest["stages"][0]["before"] == [{"name": "images", "shape": [3, 32, 32]}]
    assert manifest["preprocessing"]["decoding"].startswith("ranet-1: ")
