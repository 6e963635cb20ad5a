import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from scipy.stats import binomtest
from torchmetrics.functional.classification import multiclass_accuracy

from ranet.calibration import ExitPolicy, ExitScores, calibrate
from ranet.errors import UserError
from ranet.evaluation import write_report

QUIET = Console(quiet=True)


def read(path: Path) -> dict[str, np.ndarray]:
    with path.open() as file:
        rows = list(csv.DictReader(file))
    return {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}


def refuse(constant: str) -> None:
    pytest.fail(f"{constant} is no JSON")


def test_a_full_report(scored, pictures, class_names, tmp_path):
    output = io.StringIO()
    report = write_report(
        tmp_path / "new" / "folder",
        scored.test,
        scored.costs,
        "paper_ops",
        validation=scored.validation,
        published="CIFAR-10",
        images=pictures,
        class_names=class_names,
        sizes=pictures[:, 0, 0, 0],
        title="A network on data",
        console=Console(file=output, width=100),
    )
    tables = {"anytime.csv", "exits.csv", "budgeted.csv", "report.json"}
    figures = {"anytime.png", "budgeted.png", "shares.png", "gallery.png", "difficulty.png"}
    assert set(report.files) == {file.name for file in report.folder.iterdir()} == tables | figures
    printed = output.getvalue()
    assert "Budgeted batch classification" in printed
    assert "M multiply-adds (paper ops)" in printed
    summary = json.loads((report.folder / "report.json").read_text(), parse_constant=refuse)
    assert summary["test_images"] == scored.test.num_images
    assert len(summary["budgeted"]) == 39
    assert summary["policy"]["mean_cost"] == pytest.approx(report.outcome.mean_cost)


def test_the_tables_equal_an_independent_computation(reference, reference_logits, tmp_path):
    write_report(tmp_path, reference.test, reference.costs, "paper_ops", validation=reference.validation, console=QUIET)
    logits = torch.from_numpy(reference_logits["test_logits"])
    labels = torch.from_numpy(reference_logits["test_labels"])
    exits = read(tmp_path / "exits.csv")
    for k in range(5):
        for top in (1, 5):
            accuracy = multiclass_accuracy(logits[k], labels, num_classes=10, average="micro", top_k=top)
            assert exits[f"top{top}_percent"][k] == pytest.approx(100 * float(accuracy), abs=1e-4)
    np.testing.assert_array_equal(read(tmp_path / "anytime.csv")["cost_paper_ops"], reference.costs)

    budgeted = read(tmp_path / "budgeted.csv")
    shares = np.stack([budgeted[f"share_{k}_percent"] for k in range(1, 6)], axis=1) / 100
    right = np.stack([budgeted[f"accuracy_{k}_percent"] for k in range(1, 6)], axis=1)
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    np.testing.assert_allclose(shares @ reference.costs, budgeted["test_mean_paper_ops"], rtol=1e-8)
    np.testing.assert_allclose(np.nansum(shares * right, axis=1), budgeted["test_accuracy_percent"], rtol=1e-8)
    # The row of ratio 0.65, image by image.
    row = 12
    assert budgeted["ratio"][row] == 0.65
    thresholds = [np.float32(budgeted[f"threshold_{k}"][row]) for k in range(1, 5)]
    probabilities = logits.softmax(-1).max(-1).values.numpy()
    left_at = [next((k for k in range(4) if probabilities[k, i] >= thresholds[k]), 4) for i in range(len(labels))]
    hits = sum(int(logits[k, i].argmax() == labels[i]) for i, k in enumerate(left_at))
    assert budgeted["test_accuracy_percent"][row] == pytest.approx(100 * hits / len(labels))
    assert shares[row].tolist() == pytest.approx([left_at.count(k) / len(labels) for k in range(5)])


def test_every_accuracy_has_its_exact_interval(make_scored, tmp_path):
    """Also the one of 20 images that are all right."""
    scored, output = make_scored(images=20), io.StringIO()
    test = ExitScores(scored.test.confidence, labels=np.zeros(20), prediction=np.arange(20) >= [[9], [5], [1], [20]])
    test = ExitScores(test.confidence, test.prediction, test.correct, test.labels)
    options = {"validation": scored.validation, "console": Console(file=output, width=80)}
    write_report(tmp_path, test, scored.costs, "macs", **options)

    def check(rows: dict[str, np.ndarray], name: str) -> None:
        for value, *ends in zip(rows[name], rows[f"{name}_low"], rows[f"{name}_high"], strict=True):
            exact = binomtest(round(value / 5), 20).proportion_ci(method="exact")
            assert ends == pytest.approx([100 * exact.low, 100 * exact.high])

    for file in ("exits.csv", "anytime.csv"):
        for top in (1, 5):
            check(read(tmp_path / file), f"top{top}_percent")
    check(read(tmp_path / "budgeted.csv"), "test_accuracy_percent")
    assert read(tmp_path / "exits.csv")["top1_percent"].tolist() == [45, 25, 5, 100]
    assert "100.00 (83.2-100.0)" in output.getvalue()
    told = json.loads((tmp_path / "report.json").read_text())["policy"]
    exact = binomtest(round(20 * told["accuracy"]), 20).proportion_ci(method="exact")
    assert told["accuracy_interval"] == pytest.approx([exact.low, exact.high])


def test_without_validation_there_is_only_the_anytime_side(scored, tmp_path):
    report = write_report(tmp_path, scored.test, scored.costs, "macs", console=QUIET)
    assert report.files == ("anytime.csv", "exits.csv", "anytime.png", "report.json")
    assert report.budgeted is None
    assert "share_percent" not in read(tmp_path / "exits.csv")


def test_the_policy_given_is_the_one_shown(scored, tmp_path):
    policy = calibrate(scored.validation, scored.costs, budget=10e6).policy
    report = write_report(tmp_path, scored.test, scored.costs, "macs", policy=policy, console=QUIET)
    exits = policy.exits(scored.test)
    shares = [100 * np.mean(exits == k) for k in range(4)]
    np.testing.assert_allclose(read(report.folder / "exits.csv")["share_percent"], shares)


def test_a_network_of_one_exit_is_reported_too(make_scored, tmp_path):
    one = make_scored(exits=1)
    report = write_report(tmp_path, one.test, one.costs, "macs", validation=one.validation, console=QUIET)
    assert report.files == ("anytime.csv", "exits.csv", "anytime.png", "report.json")


def test_published_points_stay_away_from_another_unit(scored, tmp_path):
    output = io.StringIO()
    console = Console(file=output, width=120)
    write_report(tmp_path, scored.test, scored.costs, "macs", published="cifar10", console=console)
    assert "unit=paper_ops draws them" in output.getvalue()


@pytest.mark.parametrize(
    "wrong",
    [
        {"published": "digits"},
        {"policy": ExitPolicy((0.5,))},
        {"policy": ExitPolicy((0.5,) * 3), "images": [0]},
        {"policy": ExitPolicy((0.5,) * 3), "sizes": [0]},
        {"validation": ExitScores.from_logits(np.zeros((2, 3, 10)), np.zeros(3))},
    ],
)
def test_nothing_is_written_after_a_mistake(wrong, scored, tmp_path):
    with pytest.raises(UserError):
        write_report(tmp_path / "report", scored.test, scored.costs, "paper_ops", console=QUIET, **wrong)
    assert not (tmp_path / "report").exists()
