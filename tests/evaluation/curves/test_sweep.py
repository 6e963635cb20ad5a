import csv

import numpy as np
import pytest

from ranet.calibration import PAPER_RATIOS, ExitScores, evaluate_policy, geometric_policy
from ranet.errors import UserError
from ranet.evaluation import budgeted_curve


def test_all_39_points_of_the_reference_are_met(reference, reference_csv):
    curve = budgeted_curve(reference.validation, reference.test, reference.costs)
    with reference_csv.open() as file:
        rows = list(csv.DictReader(file))
    column = {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}
    assert len(rows) == len(curve.ratios) == 39
    np.testing.assert_array_equal(curve.ratios, column["ratio"])
    thresholds = np.stack([column[f"threshold_{k}"] for k in range(1, 5)], axis=1)
    thresholds[thresholds == 1e8] = np.inf  # the reference writes 1e8 where no image leaves
    np.testing.assert_allclose(curve.thresholds, thresholds, rtol=0, atol=1e-6)
    np.testing.assert_allclose(100 * curve.validation_accuracy, column["val_accuracy_percent"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(100 * curve.accuracy, column["test_accuracy_percent"], rtol=0, atol=1e-9)
    # The reference adds in float32, which has seven digits.
    np.testing.assert_allclose(curve.mean_cost, column["test_mean_paper_ops"], rtol=2e-7)


def test_a_row_is_its_policy(scored):
    curve = budgeted_curve(scored.validation, scored.test, scored.costs)
    np.testing.assert_array_equal(curve.ratios, PAPER_RATIOS)
    for i in (0, 12, 38):
        policy = curve.policy(i)
        assert policy == geometric_policy(scored.validation, curve.ratios[i])
        outcome = evaluate_policy(policy, scored.test, scored.costs)
        assert curve.accuracy[i] == outcome.accuracy
        assert curve.mean_cost[i] == outcome.mean_cost
        np.testing.assert_array_equal(curve.exit_shares[i], outcome.exit_shares)
        np.testing.assert_array_equal(curve.accuracy_per_exit[i], outcome.accuracy_per_exit)


def test_mistakes_are_named(scored):
    three_exits = ExitScores.from_logits(np.zeros((3, 2, 10)), np.zeros(2))
    with pytest.raises(UserError, match="validation scores have 3 exits and the test scores 4"):
        budgeted_curve(three_exits, scored.test, scored.costs)
    with pytest.raises(UserError, match="positive"):
        budgeted_curve(scored.validation, scored.test, scored.costs, ratios=[0.5, 0.0])
    with pytest.raises(UserError, match="each of the 4 exits"):
        budgeted_curve(scored.validation, scored.test, scored.costs[:2])
