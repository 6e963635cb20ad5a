"""Train, calibrate, evaluate: each number is found again by a loop of our own over the checkpoint that was left."""

import csv
import json
import subprocess
from importlib.metadata import version
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from torch import Tensor

import ranet
from ranet.data import ImageData
from tests.end_to_end.commands import SHORT, content, train
from tests.end_to_end.commands import ranet as command

NETWORKS = {"ranet_tiny": 6, "msdnet_tiny": 5}
FIGURES = ["anytime.png", "budgeted.png", "difficulty.png", "gallery.png", "shares.png"]


@pytest.fixture(scope="module", params=["ranet_tiny", pytest.param("msdnet_tiny", marks=pytest.mark.slow)])
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def run(name: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(name)
    outcome = train(f"model={name}", "seed=3", "run=results", folder=folder)
    for figure in FIGURES:
        assert f"figure: {folder / 'results' / 'evaluation' / figure}" in outcome.out.replace("\n", "")
    return folder / "results"


@pytest.fixture(scope="module")
def answers(run: Path) -> dict[str, tuple[Tensor, Tensor]]:
    """Logits (K, N, C) and labels (N,) of the network in the run's checkpoint, on validation and test images."""
    recipe = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    network = ranet.create_network(recipe["ranet"]["network"]["name"], **recipe["ranet"]["network"]["options"]).eval()
    weights = {key.removeprefix("network."): value for key, value in recipe["state_dict"].items()}
    network.load_state_dict({key: weights[key] for key in network.state_dict()})
    data = ImageData("digits", train_copies=1, eval_copies=1)
    found = {}
    for split, loader in (("validation", data.val_dataloader()), ("test", data.test_dataloader())):
        with torch.no_grad():
            batches = [(network(images), labels) for images, labels in loader]
        found[split] = torch.cat([logits for logits, _ in batches], 1), torch.cat([labels for _, labels in batches])
    return found


def table(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as lines:
        return list(csv.DictReader(lines))


def stopped(logits: Tensor, labels: Tensor, thresholds: list[float | str], costs: list[float]) -> tuple[float, float]:
    """Accuracy and mean cost of stopping each image at the first exit that is confident enough, one by one."""
    right, spent = 0, 0.0
    words = {"never": inf, "always": -inf}
    for image in range(logits.shape[1]):
        for k, threshold in enumerate([*thresholds, "always"]):
            confidence, predicted = logits[k, image].softmax(-1).max(-1)
            if confidence.item() >= float(words.get(threshold, threshold)):
                right += int(predicted == labels[image])
                spent += costs[k]
                break
    return right / len(labels), spent / len(labels)


def test_a_run_folder_holds_all_files(run: Path, name: str) -> None:
    expected = [
        *("checkpoints/best.ckpt", "checkpoints/last.ckpt", "config.yaml", "environment.json"),
        *(f"evaluation/{file}" for file in [*FIGURES, "anytime.csv", "budgeted.csv", "exits.csv"]),
        *("evaluation/costs.json", "evaluation/report.json"),
        *("evaluation/scores_test.npz", "evaluation/scores_validation.npz", "metrics.csv"),
    ]
    assert sorted(content(run)) == sorted(expected)
    for figure in FIGURES:
        assert np.asarray(Image.open(run / "evaluation" / figure).convert("L")).std() > 10, "an empty picture"


def test_the_configuration_is_resolved(run: Path, name: str) -> None:
    assert "${" not in (run / "config.yaml").read_text()
    config = OmegaConf.load(run / "config.yaml")
    assert (config.model.name, config.seed, config.data.seed, config.data.train_limit) == (name, 3, 3, 96)


def test_the_environment_is_recorded(run: Path, name: str) -> None:
    recorded = json.loads((run / "environment.json").read_text())
    assert recorded["command"] == ["ranet", "train", *SHORT, f"model={name}", "seed=3", "run=results"]
    for package in ("torch", "torchvision", "pytorch-lightning", "hydra-core"):
        assert recorded["packages"][package] == version(package)
    checkout = Path(ranet.__file__).parent
    revision = subprocess.run(["git", "rev-parse", "HEAD"], cwd=checkout, capture_output=True, text=True, check=False)
    if revision.returncode == 0:
        assert recorded["git_revision"].removesuffix("+changes") == revision.stdout.strip()


def test_the_metrics_are_those_of_every_exit(run: Path, name: str, answers: dict[str, tuple[Tensor, Tensor]]) -> None:
    rows = table(run / "metrics.csv")
    (validation,) = [row for row in rows if row["val/loss"]]
    (training,) = [row for row in rows if row["train/loss"]]
    logits, labels = answers["validation"]
    for k in range(NETWORKS[name]):
        right = (logits[k].argmax(-1) == labels).float().mean().item()
        assert float(validation[f"val/accuracy_exit{k + 1}"]) == pytest.approx(right, abs=1e-6)
        assert 0 <= float(training[f"train/accuracy_exit{k + 1}"]) <= 1
    assert int(training["step"]) == int(validation["step"]) == 2


def test_the_report_is_that_of_the_checkpoint(run: Path, name: str, answers: dict[str, tuple[Tensor, Tensor]]) -> None:
    logits, labels = answers["test"]
    costs = ranet.measure_costs(ranet.create_network(name), image_size=32)
    rows = table(run / "evaluation" / "exits.csv")
    assert len(rows) == NETWORKS[name]
    for k, row in enumerate(rows):
        right = (logits[k].argmax(-1) == labels).float().mean().item()
        assert float(row["top1_percent"]) == pytest.approx(100 * right, abs=1e-4)
        assert int(row["cost_macs"]) == costs.lazy_macs_per_exit[k]


def test_evaluating_again_gives_the_same_files(run: Path, tmp_path: Path) -> None:
    outcome = command("evaluate", f"checkpoint={run}", "run=again", folder=tmp_path)
    assert outcome.status == 0, outcome.err
    again, before = content(tmp_path / "again"), content(run / "evaluation")
    assert set(again) == {*before, "config.yaml", "environment.json"}
    for file in ("anytime.csv", "exits.csv", "budgeted.csv", "costs.json", "report.json"):
        assert again[file] == before[file], file


@pytest.mark.parametrize(
    "unit", ["fraction", *(pytest.param(unit, marks=pytest.mark.slow) for unit in ("macs", "paper_ops"))]
)
def test_a_calibrated_policy_meets_its_budget_and_keeps_its_promise(
    unit: str, run: Path, name: str, answers: dict[str, tuple[Tensor, Tensor]], tmp_path: Path
) -> None:
    profile = ranet.measure_costs(ranet.create_network(name), image_size=32)
    costs = [
        float(cost) for cost in (profile.paper_ops_per_exit if unit == "paper_ops" else profile.lazy_macs_per_exit)
    ]
    limit = 0.6 * costs[-1]
    budget = 0.6 if unit == "fraction" else limit
    outcome = command(
        *("calibrate", f"checkpoint={run}", f"budget={budget}", f"unit={unit}", "run=calibration"),
        "alternatives=false",
        folder=tmp_path,
    )
    assert outcome.status == 0, outcome.err
    policy = json.loads((tmp_path / "calibration" / "policy.json").read_text())
    assert sorted(content(tmp_path / "calibration")) == [
        *("calibration.csv", "calibration.png", "config.yaml", "environment.json", "policy.json"),
        *("scores_validation.npz", "static_exits.csv"),
    ]
    accuracy, cost = stopped(*answers["validation"], policy["thresholds"], costs)
    promised: dict[str, Any] = policy["metadata"]["predicted"]
    assert (promised["accuracy"], promised["cost"]) == (pytest.approx(accuracy), pytest.approx(cost))
    images = len(answers["validation"][1])
    # It uses the budget up, but for a few images that would go one exit further.
    assert limit - 5 * (costs[-1] - costs[0]) / images <= cost <= limit

    outcome = command(
        *("evaluate", f"checkpoint={run}", "policy=calibration/policy.json", "run=evaluation"), folder=tmp_path
    )
    assert outcome.status == 0, outcome.err
    report = json.loads((tmp_path / "evaluation" / "policy_report.json").read_text())
    accuracy, cost = stopped(*answers["test"], policy["thresholds"], costs)
    assert (report["seen"]["accuracy"], report["seen"]["mean_cost"]) == (pytest.approx(accuracy), pytest.approx(cost))
    assert report["images"] == len(answers["test"][1])
    assert len(table(tmp_path / "evaluation" / "policy_report.csv")) == NETWORKS[name]
