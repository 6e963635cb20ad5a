from math import inf, nan

import numpy as np
import pytest

from ranet.calibration import POLICIES, ExitScores, calibrate, evaluate_policy, load_policy
from ranet.errors import UserError


@pytest.mark.parametrize("budget", [1.0e6, 1.1e6, 2.0e6, 3.7e6, 6.0e6, 8.9e6])
def test_the_mean_cost_meets_the_budget_within_one_image(budget, scores, costs):
    result = calibrate(scores, costs, budget, alternatives=False)
    one_image = (costs[-1] - costs[0]) / scores.num_images
    assert budget - one_image <= result.predicted_cost <= budget


def test_the_prediction_is_what_the_policy_does_on_validation(scores, costs):
    result = calibrate(scores, costs, budget=3e6)
    outcome = evaluate_policy(result.policy, scores, costs)
    assert result.predicted_cost == outcome.mean_cost
    assert result.predicted_accuracy == outcome.accuracy
    np.testing.assert_array_equal(result.exit_shares, outcome.exit_shares)


@pytest.mark.parametrize("budget", [9.0e6, 1e9])
def test_a_budget_for_the_whole_network_sends_all_images_to_the_last_exit(budget, scores, costs):
    result = calibrate(scores, costs, budget, alternatives=False)
    assert result.policy.thresholds == (inf, inf, inf)
    assert result.parameters["ratio"] == inf
    assert result.exit_shares.tolist() == [0, 0, 0, 1]
    assert result.predicted_cost == 9.0e6


def test_the_cost_of_the_first_exit_sends_all_images_there(scores, costs):
    assert calibrate(scores, costs, budget=costs[0]).exit_shares.tolist() == [1, 0, 0, 0]


def test_a_budget_reached_exactly_is_spent_exactly(scores, costs):
    first = calibrate(scores, costs, budget=4e6)
    assert calibrate(scores, costs, budget=first.predicted_cost).predicted_cost == first.predicted_cost


def test_the_saved_policy_knows_its_promise(scores, costs, tmp_path):
    result = calibrate(scores, costs, budget=3e6, unit="macs", metadata={"network": {"name": "msdnet_tiny"}})
    result.policy.save(tmp_path / "policy.json")
    metadata = load_policy(tmp_path / "policy.json").metadata
    assert metadata["unit"] == "macs"
    assert metadata["budget"] == 3e6
    assert metadata["cost_per_exit"] == costs
    assert metadata["ratio"] == result.parameters["ratio"]
    assert metadata["network"] == {"name": "msdnet_tiny"}
    assert metadata["predicted"]["cost"] == result.predicted_cost
    assert metadata["predicted"]["exit_shares"] == result.exit_shares.tolist()


def test_crowds_of_equal_confidences_are_solved_too():
    """Only three distinct confidences: mean costs jump, and the result still keeps within the budget."""
    rng = np.random.default_rng(0)
    confidence = rng.choice(np.float32([0.5, 0.9, 1.0]), size=(4, 300))
    zeros = np.zeros((4, 300), dtype=int)
    crowded = ExitScores(confidence, zeros, zeros == 0, zeros[0])
    for budget in np.linspace(1.0, 4.0, 13):
        assert calibrate(crowded, [1.0, 2.0, 3.0, 4.0], budget).predicted_cost <= budget


def test_single_images_and_single_exits_are_solved(scores):
    one_image = scores.subset([7])
    assert calibrate(one_image, [1.0, 2.0, 3.0, 4.0], budget=3.5, alternatives=False).predicted_cost == 1.0
    one_exit = ExitScores(scores.confidence[:1], scores.prediction[:1], scores.correct_top5[:1], scores.labels)
    assert calibrate(one_exit, [2.0], budget=2.0).policy.thresholds == ()
    with pytest.raises(UserError, match="possible budgets are"):
        calibrate(one_exit, [2.0], budget=1.0)


def test_a_budget_out_of_reach_names_the_range(scores, costs):
    with pytest.raises(
        UserError, match=r"500,000 macs; possible budgets are 1,000,000 macs .* to 9,000,000 macs .* 0\.111"
    ):
        calibrate(scores, costs, budget=5e5, unit="macs")


@pytest.mark.parametrize("budget", [0.0, -1.0, nan, inf])
def test_a_budget_that_is_no_positive_number_names_the_range(budget, scores, costs):
    with pytest.raises(UserError, match=r"positive number.*possible budgets are"):
        calibrate(scores, costs, budget)


def test_an_unknown_family_and_wrong_costs_are_named(scores, costs):
    with pytest.raises(UserError, match="geometric"):
        calibrate(scores, costs, budget=3e6, policy="geometrical")
    with pytest.raises(UserError, match="each of the 4 exits"):
        calibrate(scores, costs[:3], budget=3e6)


def test_more_exits_than_a_byte_counts():
    rng = np.random.default_rng(0)
    many = ExitScores(rng.uniform(size=(300, 50)), correct=rng.uniform(size=(300, 50)) < 0.5)
    costs = np.arange(1.0, 301.0)
    result = calibrate(many, costs, 150.0, alternatives=False)
    assert 140 < result.predicted_cost <= 150
    assert result.predicted_cost == evaluate_policy(result.policy, many, costs).mean_cost
    with pytest.raises(UserError, match="at most 31 exits"):
        calibrate(ExitScores(many.confidence, np.zeros((300, 50))), costs, 150.0, policy="patience")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget": "much"}, "positive number, not much"),
        ({"budget": True}, "positive number, not True"),
        ({"folds": 1}, "folds=1"),
        ({"smoothing": 2.0}, "smoothing=2.0"),
        ({"policy": "patience", "score": "margin"}, "cannot compare score=margin"),
        ({"score": "patience"}, "policy=patience"),
        ({"score": "certainty"}, "Unknown score 'certainty'"),
        ({"cost_per_exit": ["a", "b", "c", "d"]}, "one number for each exit"),
    ],
)
def test_options_that_cannot_be_are_named(options, message, scores, costs):
    with pytest.raises(UserError, match=message):
        calibrate(scores, **{"cost_per_exit": costs, "budget": 3e6, **options})


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("policy", POLICIES)
def test_far_too_large_a_budget_is_said(policy, scores, costs):
    for alternatives in (False, True):
        result = calibrate(scores, costs, 100 * costs[-1], policy=policy, alternatives=alternatives)
        assert alternatives or result.exit_shares.tolist() == [0, 0, 0, 1]
        (notice,) = result.notices
        assert "exceeds the cost of the last exit" in notice


def test_a_single_image_keeps_the_rule():
    one = ExitScores([[0.5], [0.6]], correct=[[True], [False]])
    assert calibrate(one, [1.0, 2.0], 1.5, policy="optimal").parameters["accepted"] is False
