import csv
import json
from math import isnan

import numpy as np
import pytest

from ranet.calibration import ExitPolicy, ExitScores, calibrate, evaluate_policy, load_policy
from ranet.errors import UserError
from ranet.evaluation import policy_report
from ranet.evaluation.reports.policy import policy_document, promise_sheet
from tests.calibration.promises import promise


def test_promise_and_truth_stand_side_by_side(scored, tmp_path):
    calibrated = calibrate(scored.validation, scored.costs, budget=10e6, unit="paper_ops")
    calibrated.policy.save(tmp_path / "policy.json")
    report = policy_report(load_policy(tmp_path / "policy.json"), scored.test)
    seen = evaluate_policy(calibrated.policy, scored.test, scored.costs)
    assert report.promised.mean_cost == calibrated.predicted_cost
    assert report.promised.accuracy == calibrated.predicted_accuracy
    np.testing.assert_array_equal(report.promised.exit_shares, calibrated.exit_shares)
    assert (report.seen.accuracy, report.seen.mean_cost) == (seen.accuracy, seen.mean_cost)
    assert (report.unit, report.budget, report.images) == ("paper_ops", 10e6, scored.test.num_images)
    document = policy_document(report)
    assert "budget 10.00" in document.page()
    assert f"{100 * seen.accuracy:.2f}" in document.page()

    csv_file, json_file = document.write(tmp_path)
    with csv_file.open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["share_percent"]) / 100 for row in rows] == pytest.approx(seen.exit_shares.tolist())
    assert json.loads(json_file.read_text())["seen"]["mean_cost"] == seen.mean_cost
    assert load_policy(tmp_path / "policy.json") == calibrated.policy, "the policy itself is left alone"


@pytest.mark.parametrize("metadata", [{}, {"predicted": 3, "budget": "much"}, {"predicted": {"exit_shares": [1.0]}}])
def test_a_policy_without_a_promise_is_reported_too(metadata, scored):
    report = policy_report(ExitPolicy((0.5, 0.5, 0.5), metadata=metadata), scored.test, scored.costs, unit="macs")
    assert isnan(report.promised.accuracy)
    assert isnan(report.budget)
    assert "M multiply-adds" in promise_sheet(report).caption


def test_mistakes_are_named(scored):
    with pytest.raises(UserError, match="give the cost of each exit"):
        policy_report(ExitPolicy((0.5, 0.5, 0.5)), scored.test)
    with pytest.raises(UserError, match="for 2 exits and the scores have 4"):
        policy_report(ExitPolicy((0.5,)), scored.test, [1.0, 2.0])


def test_intervals_and_differences_are_those_of_the_images(scored):
    calibrated = calibrate(scored.validation, scored.costs, budget=10e6, unit="paper_ops")
    report = policy_report(calibrated.policy, scored.test)
    assert report.promised_intervals.cost == calibrated.cost_interval
    assert report.promised_intervals.accuracy == calibrated.interval
    exits = calibrated.policy.exits(scored.test)
    images = np.arange(scored.test.num_images)
    samples = {"cost": scored.costs[exits], "accuracy": scored.test.correct[exits, images].astype(float)}
    for name, values in samples.items():
        low, high = getattr(report.seen_intervals, name)
        error = values.std() / np.sqrt(len(values))
        assert (low, high) == pytest.approx((values.mean() - 1.96 * error, values.mean() + 1.96 * error), rel=0.01)
    assert report.cost_difference.value == pytest.approx(report.seen.mean_cost - calibrated.predicted_cost)
    assert report.accuracy_difference.value == pytest.approx(report.seen.accuracy - calibrated.predicted_accuracy)
    for name, values in samples.items():
        difference = getattr(report, f"{name}_difference")
        half = 1.96 * values.std() * np.sqrt(2 / len(values))
        assert difference.interval == pytest.approx((difference.value - half, difference.value + half), abs=half / 4)
        assert difference.significant == (abs(difference.value) > half)
    assert f"mean cost {report.cost_difference.in_percent.value:+.2f} %" in report.verdict
    assert f"top-1 {100 * report.accuracy_difference.value:+.2f} points" in report.verdict


def test_what_is_more_than_chance_is_said(scored, tmp_path):
    policy = calibrate(scored.validation, scored.costs, budget=10e6).policy
    worse = ExitScores(
        scored.test.confidence * 0.8,
        np.where(np.arange(scored.test.num_images) % 3, scored.test.prediction, (scored.test.labels + 1) % 10),
        labels=scored.test.labels,
    )
    report = policy_report(policy, worse)
    assert report.cost_difference.significant
    assert report.accuracy_difference.value < -0.2
    assert report.verdict.count(", more than chance") == 2
    content = json.loads(policy_document(report).write(tmp_path)[1].read_text())
    assert content["cost_difference"]["interval"] == list(report.cost_difference.interval)
    assert content["accuracy_difference"]["p_value"] == report.accuracy_difference.p_value
    assert content["seen_intervals"]["accuracy"] == list(report.seen_intervals.accuracy)
    assert content["promised_intervals"]["cost"] == policy.metadata["predicted"]["cost_interval"]


def test_images_without_labels_have_a_cost(scored, tmp_path):
    policy = calibrate(scored.validation, scored.costs, budget=10e6).policy
    report = policy_report(policy, ExitScores(scored.test.confidence))
    assert isnan(report.seen.accuracy)
    assert (report.accuracy_difference, report.seen_intervals.accuracy) == (None, None)
    assert report.cost_difference is not None
    assert "top-1" not in report.verdict
    assert promise_sheet(report).cells[2][::2] == ["top-1 %", "-"]
    assert json.loads(policy_document(report).write(tmp_path)[1].read_text())["accuracy_difference"] is None


def test_other_costs_are_compared_with_the_same_images_promised(scored):
    policy = calibrate(scored.validation, scored.costs, budget=10e6).policy
    report = policy_report(policy, scored.test, [1.0, 2.0, 3.0, 4.0], unit="ms")
    promised = np.dot(policy.metadata["predicted"]["exit_shares"], [1.0, 2.0, 3.0, 4.0])
    assert report.cost_difference.value == pytest.approx(report.seen.mean_cost - promised)


@pytest.mark.parametrize("score", ["margin", "entropy", "patience"])
def test_every_score_and_temperature_is_reported(score):
    rng = np.random.default_rng(0)
    logits, labels, temperatures = rng.normal(size=(3, 400, 10)), rng.integers(10, size=400), [0.5, 1.0, 2.0]
    scores = ExitScores.from_logits(logits, labels, temperatures=temperatures)
    thresholds = np.median(scores.score(score)[:-1], axis=1)
    policy = promise(thresholds, scores, np.array([1.0, 2.0, 4.0]), family="median", score=score).policy
    report = policy_report(policy, scores)
    assert report.seen.mean_cost == report.promised.mean_cost
    assert report.cost_difference.value == pytest.approx(0)
    assert (report.cost_difference.significant, report.accuracy_difference.significant) == (False, False)
    with pytest.raises(UserError, match="different temperatures"):
        policy_report(policy, ExitScores.from_logits(logits, labels))
