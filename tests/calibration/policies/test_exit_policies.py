import json
from math import inf, nan

import numpy as np
import pytest

from ranet.calibration import ExitPolicy, ExitScores, evaluate_policy, geometric_policy, load_policy
from ranet.errors import UserError


def test_an_image_leaves_at_the_first_exit_that_is_confident_enough(scores):
    policy = ExitPolicy((0.6, inf, 0.4))
    for i, left_at in enumerate(policy.exits(scores)):
        confident = [k for k in range(3) if scores.confidence[k, i] >= policy.thresholds[k]]
        assert left_at == (confident[0] if confident else 3)


def test_evaluate_policy_counts_image_by_image(scores, costs):
    policy = ExitPolicy((0.6, inf, 0.4))
    outcome = evaluate_policy(policy, scores, costs)
    left, right, cost = [0] * 4, [0] * 4, 0.0
    for i, k in enumerate(policy.exits(scores)):
        left[k] += 1
        right[k] += int(scores.prediction[k, i] == scores.labels[i])
        cost += costs[k]
    assert outcome.accuracy == pytest.approx(sum(right) / scores.num_images)
    assert outcome.mean_cost == pytest.approx(cost / scores.num_images)
    np.testing.assert_allclose(outcome.exit_shares, np.array(left) / scores.num_images)
    expected = [r / n if n else nan for r, n in zip(right, left, strict=True)]
    np.testing.assert_allclose(outcome.accuracy_per_exit, expected)
    assert left[1] == 0, "the case of an exit where no image leaves is covered"


def test_thresholds_compare_in_the_precision_of_the_scores():
    """0.9 is not a float32: a score that prints as 0.9 must leave at a threshold that prints as 0.9."""
    confidence = np.full((2, 1), 0.9, dtype=np.float32)
    scores = ExitScores(confidence, np.zeros((2, 1), int), np.ones((2, 1), bool), np.zeros(1, int))
    assert ExitPolicy((0.9,)).exits(scores).tolist() == [0]


def test_a_single_exit_needs_no_threshold(scores):
    one = ExitScores(scores.confidence[:1], scores.prediction[:1], scores.correct_top5[:1], scores.labels)
    policy = geometric_policy(one, ratio=0.7)
    assert policy.thresholds == ()
    assert evaluate_policy(policy, one, [2.0]).mean_cost == 2.0


def test_save_and_load_keep_every_bit(scores, tmp_path):
    solved = geometric_policy(scores, ratio=0.65).thresholds
    metadata = {"unit": "macs", "shares": np.float32([0.5, 0.5]), "nothing": nan}
    policy = ExitPolicy((solved[0], inf, solved[2]), metadata=metadata)
    policy.save(tmp_path / "deep" / "policy.json")
    again = load_policy(tmp_path / "deep" / "policy.json")
    assert again == policy
    assert again.metadata == {"unit": "macs", "shares": [0.5, 0.5], "nothing": None}
    np.testing.assert_array_equal(again.exits(scores), policy.exits(scores))


def test_the_file_is_strict_json(tmp_path):
    ExitPolicy((0.5, inf), metadata={"ratio": inf}).save(tmp_path / "policy.json")

    def refuse(constant: str) -> None:
        pytest.fail(f"{constant} is no JSON")

    content = json.loads((tmp_path / "policy.json").read_text(), parse_constant=refuse)
    assert content["thresholds"] == [0.5, "never"]
    assert content["metadata"] == {"ratio": None}


@pytest.mark.parametrize("exit", range(4))
def test_the_policy_of_one_exit_survives_its_file(exit, scores, tmp_path):
    ExitPolicy.only(exit, 4).save(tmp_path / "policy.json")
    assert set(load_policy(tmp_path / "policy.json").exits(scores)) == {exit}


def test_a_policy_for_other_exits_is_named(scores, costs):
    with pytest.raises(UserError, match="for 3 exits and the scores have 4"):
        ExitPolicy((0.5, 0.5)).exits(scores)
    with pytest.raises(UserError, match="for 3 exits and the scores have 4"):
        evaluate_policy(ExitPolicy((0.5, 0.5)), scores, costs)


@pytest.mark.parametrize("thresholds", [(nan,), ((0.5, 0.5), (0.5, 0.5))])
def test_thresholds_that_are_no_numbers_are_named(thresholds):
    with pytest.raises(UserError, match="one number for each exit"):
        ExitPolicy(thresholds)


@pytest.mark.parametrize("costs", [[1.0, 2.0], [1.0, 2.0, 3.0, nan], [-1.0, 2.0, 3.0, 4.0], 5.0])
def test_wrong_costs_are_named(costs, scores):
    with pytest.raises(UserError, match=r"cost|Cost"):
        evaluate_policy(ExitPolicy((0.5,) * 3), scores, costs)
