import csv
import io
import json
from math import isnan

import numpy as np
import pytest
from rich.console import Console

from ranet.calibration import ExitPolicy, calibrate, evaluate_policy, load_policy
from ranet.errors import UserError
from ranet.evaluation import policy_report


def printed(table) -> str:
    output = io.StringIO()
    Console(file=output, width=100).print(table)
    return output.getvalue()


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
    text = printed(report.table())
    assert "budget 10.00" in text
    assert f"{100 * seen.accuracy:.2f}" in text

    csv_file, json_file = report.write(tmp_path)
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
    assert "M multiply-adds" in printed(report.table())


def test_mistakes_are_named(scored):
    with pytest.raises(UserError, match="give the cost of each exit"):
        policy_report(ExitPolicy((0.5, 0.5, 0.5)), scored.test)
    with pytest.raises(UserError, match="for 2 exits and the scores have 4"):
        policy_report(ExitPolicy((0.5,)), scored.test, [1.0, 2.0])
