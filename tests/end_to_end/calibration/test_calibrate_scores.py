"""ranet calibrate on scores alone, for networks that live elsewhere."""

import json
from pathlib import Path

import numpy as np
import pytest

from ranet.calibration import ExitPolicy, ExitScores, load_policy
from tests.end_to_end.calibration.calibrations import RESULTS, calibrate, rows, uses_up
from tests.end_to_end.commands import content
from tests.end_to_end.commands import ranet as command

COSTS = "cost=[1,2.5,3,7]"


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with score files: 250 and 150 images in the ways that they can be known."""
    folder = tmp_path_factory.mktemp("scores")
    rng = np.random.default_rng(0)
    labels = rng.integers(5, size=400)
    logits = rng.normal(size=(4, 400, 5)) + np.linspace(1, 4, 4)[:, None, None] * np.eye(5)[labels]
    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    confidence, correct = probabilities.max(-1), probabilities.argmax(-1) == labels
    for name, images in (("", slice(0, 250)), ("_test", slice(250, None))):
        np.savez(folder / f"logits{name}.npz", logits=logits[:, images], labels=labels[images])
        np.savez(folder / f"known{name}.npz", confidence=confidence[:, images], correct=correct[:, images])
    np.savez(folder / "unlabelled.npz", logits=logits[:, :250])
    return folder


def walk(policy: ExitPolicy, used: Path, known: Path) -> tuple[float, float]:
    """Accuracy and mean cost of stopping each image at the first exit that is confident enough, one by one.

    Args:
        policy: to follow.
        used: scores that the command wrote: an image whose confidence is a threshold turns on its last bit.
        known: what they must be.
    """
    with np.load(known) as file:
        expected, correct = file["confidence"], file["correct"]
    with np.load(used) as file:
        confidence = file["confidence"]
    np.testing.assert_allclose(confidence, expected, rtol=1e-5)
    stops = [
        [*(confidence[:-1, image] >= np.float32(policy.thresholds)), True].index(True)
        for image in range(correct.shape[1])
    ]
    costs = policy.metadata["cost_per_exit"]
    return np.mean([correct[k, i] for i, k in enumerate(stops)]), np.mean([costs[k] for k in stops])


@pytest.mark.parametrize("file", ["logits", "known"])
def test_what_is_promised_and_seen_is_what_a_loop_finds(file: str, here: Path, tmp_path: Path) -> None:
    options = [COSTS, "unit=joules", "budget=[3,70%]", f"test_scores={file}_test.npz", f"run={tmp_path}"]
    assert "cost in joules" in calibrate(f"scores={file}.npz", *options, folder=here)
    for number, (row, budget) in enumerate(zip(rows(tmp_path), (3.0, 4.9), strict=True), start=1):
        policy = load_policy(tmp_path / "policies" / f"policy_{number}.json")
        assert policy.metadata["budget"] == pytest.approx(budget)
        assert policy.metadata["cost_per_exit"] == [1, 2.5, 3, 7]
        assert uses_up(policy, budget)
        assert "network" not in policy.metadata
        assert policy.metadata["data"] == {"scores": str(here / f"{file}.npz")}
        for kind, split, known in (("predicted", "validation", "known.npz"), ("test", "test", "known_test.npz")):
            accuracy, cost = walk(policy, tmp_path / f"scores_{split}.npz", here / known)
            assert float(row[f"{kind}_accuracy_percent"]) == pytest.approx(100 * accuracy)
            assert float(row[f"{kind}_cost_joules"]) == pytest.approx(cost)


def test_without_labels_costs_alone_are_promised(here: Path, tmp_path: Path) -> None:
    calibrate("scores=unlabelled.npz", COSTS, "budget=0.5", "unit=fraction", f"run={tmp_path}", folder=here)
    assert set(content(tmp_path)) == {*RESULTS, "policy.json", "scores_validation.npz"} - {
        "calibration.png",
        "static_exits.csv",
    }
    policy = load_policy(tmp_path / "policy.json")
    assert (policy.metadata["unit"], policy.metadata["budget"]) == ("", 3.5)
    assert policy.metadata["predicted"]["accuracy"] is None
    assert uses_up(policy, 3.5)
    assert policy.metadata["predicted"]["cost"] == pytest.approx(
        walk(policy, tmp_path / "scores_validation.npz", here / "known.npz")[1]
    )
    (row,) = rows(tmp_path)
    assert row["predicted_accuracy_percent"] == "nan"


def test_a_risk_and_a_deadline(here: Path, tmp_path: Path) -> None:
    options = ["scores=logits.npz", COSTS, f"run={tmp_path / 'risk'}"]
    out = calibrate(*options, "risk.eps=0.08", folder=here)
    policy = load_policy(tmp_path / "risk" / "policy.json")
    files = tmp_path / "risk" / "scores_validation.npz", here / "known.npz"
    accuracy, cost = walk(policy, *files)
    last = walk(ExitPolicy.only(3, 4, cost_per_exit=[1, 2.5, 3, 7]), *files)[0]
    assert 0 < 100 * (last - accuracy) < 8
    assert f"({100 * (last - accuracy):.2f} % on these)" in out
    assert cost < 7
    options = ["scores=unlabelled.npz", COSTS, f"run={tmp_path / 'deadline'}"]
    assert "cost in milliseconds" in calibrate(*options, "deadline=3", folder=here)
    policy = load_policy(tmp_path / "deadline" / "policy.json")
    assert policy.metadata["predicted"]["exit_shares"] == [0, 0, 1, 0]


def test_a_network_of_one_exit(here: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "one.npz", logits=rng.normal(size=(1, 20, 5)), labels=rng.integers(5, size=20))
    for options in (["budget=sweep", "policy=optimal"], ["risk.eps=0.2"], ["budget=50", "policy=patience"]):
        calibrate("scores=one.npz", "cost=[2]", *options, "run=out", folder=tmp_path)
        policy = load_policy(tmp_path / "out" / "policy.json")
        assert (policy.thresholds, policy.metadata["predicted"]["cost"]) == ((), 2)


def test_each_budget_of_a_hydra_sweep_has_its_folder(here: Path, tmp_path: Path) -> None:
    options = ["scores=known.npz", "cost=[1,2,3,4]", "budget=2,75%", f"sweep={tmp_path}"]
    outcome = command("calibrate", "-m", *options, folder=here)
    assert outcome.status == 0, outcome.err
    found = [load_policy(tmp_path / job / "policy.json").metadata["budget"] for job in ("0", "1")]
    assert found == [2.0, 3.0]


def test_many_exits_cost_no_digit_of_the_table(here: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "many.npz", logits=3 * rng.normal(size=(12, 200, 10)), labels=rng.integers(10, size=200))
    costs = f"cost=[{','.join(str(k * 1_000_000) for k in range(1, 13))}]"
    options = ["scores=many.npz", "test_scores=many.npz", costs, "unit=paper_ops", "budget=[50%,60%]", "run=out"]
    out = calibrate(*options, folder=tmp_path)
    assert "\u2026" not in out
    for row in rows(tmp_path / "out"):
        assert f"{float(row['predicted_cost_paper_ops']) / 1e6:#.4g}" in out
        assert f"{float(row['test_accuracy_percent']):.2f} (" in out


def test_other_scores_are_held_against_the_promise(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    for name, images in (("validation", 2000), ("later", 1000)):
        labels = rng.integers(10, size=images)
        logits = rng.normal(size=(3, images, 10)) + np.array([1.0, 2.0, 3.0])[:, None, None] * np.eye(10)[labels]
        np.savez(tmp_path / f"{name}.npz", logits=logits, labels=labels)
        np.savez(tmp_path / f"unlabelled_{name}.npz", logits=logits)
        np.savez(tmp_path / f"dim_{name}.npz", logits=0.7 * logits)
    calibrate("scores=validation.npz", "cost=[1,2,4]", "risk.eps=0.1", "output=policy.json", "run=c", folder=tmp_path)
    policy = load_policy(tmp_path / "policy.json")

    labelled = command("evaluate", "scores=later.npz", "policy=policy.json", "run=labelled", folder=tmp_path)
    assert labelled.status == 0, labelled.err
    scores = ExitScores.load(tmp_path / "later.npz")
    report = json.loads((tmp_path / "labelled" / "policy_report.json").read_text())
    exits = policy.exits(scores)
    lost = scores.correct[-1].mean() - scores.correct[exits, np.arange(1000)].mean()
    assert report["risk"] == pytest.approx(lost)
    assert report["seen"]["accuracy"] == pytest.approx(scores.correct[exits, np.arange(1000)].mean())
    assert f"Guarantee: accuracy lost at most 10 %; {100 * lost:.2f} % on these images." in labelled.out

    same = command("evaluate", "scores=unlabelled_later.npz", "policy=policy.json", "run=same", folder=tmp_path)
    assert "No drift seen" in same.out
    dim = command("evaluate", "scores=dim_later.npz", "policy=policy.json", "run=dim", folder=tmp_path)
    assert "Drift: " in dim.out
    assert "cannot be measured without labels" in dim.out


def test_files_of_the_users_in_the_run_folder_stay(here: Path, tmp_path: Path) -> None:
    """Also where they are called as results are."""
    for name, source in (("scores_validation", "logits"), ("scores_test", "logits_test")):
        (tmp_path / f"{name}.npz").write_bytes((here / f"{source}.npz").read_bytes())
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "notes.txt").write_text("mine")
    kept = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    for _ in range(2):  # the second time with the record of the first
        calibrate(
            "scores=scores_validation.npz", "test_scores=scores_test.npz", COSTS, "budget=3", "run=.", folder=tmp_path
        )
        assert {path: path.read_bytes() for path in kept} == kept
    calibrate("scores=scores_test.npz", COSTS, "budget=3", "run=other", folder=tmp_path)
    (tmp_path / "seen").mkdir()
    mine = (tmp_path / "scores_test.npz").rename(tmp_path / "seen" / "scores_test.npz")
    kept[mine] = kept.pop(tmp_path / "scores_test.npz")
    outcome = command("evaluate", f"scores={mine}", "policy=policy.json", "run=seen", folder=tmp_path)
    assert outcome.status == 0, outcome.err
    assert {path: path.read_bytes() for path in kept} == kept
