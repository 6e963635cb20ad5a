"""ranet bench: what it measures is written whole, and a mistake is one sentence with nothing written."""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import ranet
from ranet.calibration import ExitScores, evaluate_policy, load_policy
from ranet.training import load_trained
from tests.end_to_end.calibration.calibrations import calibrate, train_network
from tests.end_to_end.commands import SMALL, content
from tests.end_to_end.commands import ranet as command

QUICK = ["rounds=1", "seconds=0.1", "backends=torch"]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a trained network (run), and two policies and its test scores (calibration)."""
    folder = tmp_path_factory.mktemp("bench")
    train_network(folder)
    own = ["alternatives=false", "test=true"]
    calibrate("checkpoint=run", "budget=[50%,80%]", *own, "run=calibration", folder=folder)
    return folder


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "bench.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_a_trained_network_with_policies_and_a_rival(here: Path, tmp_path: Path) -> None:
    options = ["policy=calibration", "images_limit=100000", "batch_sizes=16", "rounds=2", "seconds=null"]
    options += ["rivals=[squeezenet1_1:58.2]", "backends=torch", f"run={tmp_path / 'out'}"]
    outcome = command("bench", "checkpoint=run", *options, folder=here)
    assert outcome.status == 0, outcome.err
    assert not outcome.err
    names = ["bench.csv", "bench.json", "bench.md", "bench.png", "bench_rivals.csv", "config.yaml", "environment.json"]
    assert sorted(content(tmp_path / "out")) == names

    test = ExitScores.load(here / "calibration" / "scores_test.npz")
    macs = np.array(ranet.measure_costs(load_trained(here / "run").network, 32).lazy_macs_per_exit, dtype=np.float64)
    timed = test.num_images // 16 * 16
    for number, row in enumerate(rows(tmp_path / "out"), start=1):
        policy = load_policy(here / "calibration" / "policies" / f"policy_{number}.json")
        expected = evaluate_policy(policy, test, macs)
        assert row["policy"] == ("50 %", "80 %")[number - 1]
        assert int(row["images"]) == timed
        assert float(row["accuracy_percent"]) == pytest.approx(100 * expected.accuracy)
        assert float(row["answers_as_float32_percent"]) == 100
        predicted = policy.metadata["predicted"]["cost"] / macs[-1]
        assert float(row["predicted_cost_percent"]) == pytest.approx(100 * predicted)
        # Of all images but the few that do not fill a batch.
        left_out = test.num_images - timed
        for k, share in enumerate(expected.exit_shares, start=1):
            found = float(row[f"share_{k}_percent"]) / 100 * timed
            assert share * test.num_images - left_out - 1e-6 <= found <= share * test.num_images + 1e-6
        assert float(row["calls_ms"]) > 0
        assert float(row["stream_ms"]) > 0
        assert f"{float(row['whole_accuracy_percent']):.2f}" == f"{100 * test.correct[-1].mean():.2f}"
        assert f"\n{row['policy']}, calls" in outcome.out
        assert f"\n{row['policy']}, stream" in outcome.out

    told = json.loads((tmp_path / "out" / "bench.json").read_text())
    assert told["conditions"]["command"] == " ".join(["ranet bench checkpoint=run", *options])
    assert told["conditions"]["hardware"]
    assert told["settings"][0]["rivals"][0]["accuracy"] == 0.582
    for sentence in told["sentences"]:
        assert sentence in outcome.out
    assert "squeezenet1_1" in outcome.out
    assert f"  figure: {tmp_path / 'out' / 'bench.png'}\n" in outcome.out


@pytest.mark.slow
def test_budgets_are_solved_on_the_validation_images(here: Path, tmp_path: Path) -> None:
    options = ["budget=[50%,80%]", "images_limit=48", "batch_sizes=1", *QUICK, f"run={tmp_path / 'out'}"]
    outcome = command("bench", "checkpoint=run", *options, folder=here)
    assert outcome.status == 0, outcome.err
    found = rows(tmp_path / "out")
    assert [row["policy"] for row in found] == ["50 %", "80 %"]
    for number, row in enumerate(found, start=1):
        policy = load_policy(here / "calibration" / "policies" / f"policy_{number}.json")
        predicted = policy.metadata["predicted"]["cost"] / policy.metadata["cost_per_exit"][-1]
        assert float(row["predicted_cost_percent"]) == pytest.approx(100 * predicted)
        assert row["stream_ms"] == "nan"


def test_random_weights_tell_times_alone(tmp_path: Path) -> None:
    options = ["precisions=[float32,bfloat16]", "batch_sizes=[1,8]", "images_limit=32", *QUICK, "rivals=null"]
    outcome = command("bench", *SMALL, *options, "run=out", folder=tmp_path)
    assert outcome.status == 0, outcome.err
    assert sorted(content(tmp_path / "out")) == [
        "bench.csv",
        "bench.json",
        "bench.md",
        "config.yaml",
        "environment.json",
    ]
    found = rows(tmp_path / "out")
    assert {(row["precision"], row["batch_size"]) for row in found} == {
        (precision, size) for precision in ("float32", "bfloat16") for size in ("1", "8")
    }
    assert {row["accuracy_percent"] for row in found} == {"nan"}
    # The first exit costs more than half of this network, so the other budgets are not among them.
    assert {row["policy"] for row in found} == {"75 %"}
    assert "Measuring 4 settings in about 0 seconds" in outcome.out
    assert "In torch bfloat16 at least " in outcome.out


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    (folder / "bad.onnx").write_bytes(b"this is no graph")
    ranet.ExitPolicy((0.5,) * 6).save(folder / "seven_exits.json")
    return folder


CASES = {
    "": "Say what to measure: checkpoint=RUN, or model=NAME",
    "checkpoint=nowhere": "There is no run folder or checkpoint file",
    "model=msdnet_tiny data=digits": "data= has no effect on random weights",
    "model=msdnet_tiny cache=here": "cache= has no effect on random weights",
    "model=msdnet_tiny backends=tensorrt": "Unknown backend 'tensorrt'; known: onnxruntime, openvino, torch.",
    "model=msdnet_tiny backends=[]": "There is nothing to measure",
    "model=msdnet_tiny precisions=[float32,fp16]": "Unknown precision 'fp16'",
    "model=msdnet_tiny batch_sizes=[1,0]": "batch_sizes=0 must be an integer of at least 1",
    "model=msdnet_tiny batch_sizes=many": "batch_sizes=many must be an integer of at least 1",
    "model=msdnet_tiny backends=torch batch_sizes=64 images_limit=10": "batch_sizes=64 is more than the 10 images",
    "model=msdnet_tiny rounds=0": "rounds=0 must be an integer of at least 1",
    "model=msdnet_tiny images_limit=1.5": "images_limit=1.5 must be an integer of at least 1",
    "model=msdnet_tiny threads=0": "threads=0 must be an integer of at least 1",
    "model=msdnet_tiny seed=abc": "seed=abc must be an integer from 0 to 4294967295.",
    "model=msdnet_tiny seed=-1": "seed=-1 must be an integer from 0 to 4294967295.",
    "model=msdnet_tiny images_limit=8 rivals=[null]": "rivals=[null] names no network",
    "model=msdnet_tiny seconds=0": "seconds=0 must be a positive number, or null",
    "model=msdnet_tiny device=abacus": "device=abacus is not available",
    "model=msdnet_tiny budget=1%": "No policy has a mean cost of",
    "model=msdnet_tiny budget=50% policy=seven_exits.json": "not both policy= and budget=",
    "model=msdnet_tiny policy=nowhere.json": "'nowhere.json' does not exist",
    "model=msdnet_tiny policy=seven_exits.json images_limit=8": "The policy is for 7 exits",
    "model=msdnet_tiny images_limit=8 rivals=[resnet19]": "did you mean resnet18",
    "model=msdnet_tiny images_limit=8 rivals=[bad.onnx]": "is not an ONNX file, or is damaged",
    "model=msdnet_tiny images_limit=8 rivals=[resnet18:good]": "rivals=resnet18:good must be a name",
}


@pytest.mark.parametrize(
    "options",
    # Every other one on all days, the others among the slow tests.
    [pytest.param(options, marks=[pytest.mark.slow] if i % 2 == 0 else []) for i, options in enumerate(CASES)],
)
def test_a_mistake_is_one_sentence_and_nothing_is_written(options: str, files: Path) -> None:
    before = content(files)
    outcome = command("bench", *options.split(), "run=out", folder=files)
    assert outcome.status == 1
    assert outcome.err.startswith("ranet: ")
    assert outcome.err.count("\n") == 1
    assert CASES[options] in outcome.err
    assert content(files) == before


def test_a_backend_that_is_not_installed_names_its_extra(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("openvino", "onnxruntime"):
        monkeypatch.setitem(sys.modules, package, None)
    outcome = command("bench", "model=msdnet_tiny", "backends=openvino", "run=out", folder=files)
    assert outcome.status == 1
    assert 'needs the package openvino, which is not there; pip install "ranet[openvino]".' in outcome.err
    outcome = command("bench", "model=msdnet_tiny", "backends=onnxruntime", "run=out", folder=files)
    assert 'pip install "ranet[onnx]".' in outcome.err
    assert not (files / "out").exists() or not content(files / "out")


@pytest.mark.slow
def test_every_runtime_and_a_rival_from_a_file(tmp_path: Path) -> None:
    for package in ("onnxruntime", "openvino", "onnxscript"):
        pytest.importorskip(package)
    rival = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    batch = {0: torch.export.Dim("batch")}
    images = torch.zeros(2, 3, 48, 48)
    torch.onnx.export(rival, (images,), tmp_path / "rival.onnx", dynamic_shapes=(batch,), dynamo=True, verbose=False)
    options = ["batch_sizes=[1,8]", "images_limit=64", "rounds=1", "seconds=0.5", "rivals=[rival.onnx]", "run=out"]
    outcome = command("bench", *SMALL, *options, folder=tmp_path)
    assert outcome.status == 0, outcome.err
    assert {row["backend"] for row in rows(tmp_path / "out")} == {"torch", "onnxruntime", "openvino"}
    with (tmp_path / "out" / "bench_rivals.csv").open(newline="") as file:
        rivals = list(csv.DictReader(file))
    assert [(row["backend"], row["shape"]) for row in rivals] == [
        (backend, "3x48x48") for backend in ("onnxruntime", "onnxruntime", "openvino", "openvino")
    ]
