from math import inf, isnan, nan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from ranet.calibration import ExitPolicy, ExitScores, evaluate_policy, load_policy
from ranet.calibration.solvers.deadline import exit_for_deadline
from ranet.errors import UserError

TIMES = [1.5, 4.0, 9.0, 9.5]


@given(
    latencies=st.lists(st.floats(0, 1e4), min_size=1, max_size=8, unique=True).map(sorted),
    data=st.data(),
)
def test_it_is_the_exit_that_a_loop_finds(latencies: list[float], data: st.DataObject) -> None:
    deadline = data.draw(st.one_of(st.floats(0, 2e4), st.sampled_from(latencies)))
    found = None
    for k, latency in enumerate(latencies):
        if latency <= deadline:
            found = k
    if found is None:
        with pytest.raises(UserError, match="smallest deadline that can be met") as raised:
            exit_for_deadline(latencies, deadline)
        # What the message names can be met.
        named = float(str(raised.value).split(" is ")[1].split(" ms")[0])
        assert exit_for_deadline(latencies, named).parameters["exit_index"] == 0
        return
    choice = exit_for_deadline(latencies, deadline)
    assert choice.parameters == {"exit_index": found, "deadline": deadline}
    assert choice.cost_per_exit.tolist() == latencies
    assert choice.policy.thresholds == (inf,) * found + (-inf,) * (len(latencies) - 1 - found)


@pytest.mark.parametrize(("deadline", "exit"), [(1.5, 0), (3.9, 0), (4.0, 1), (9.4, 2), (1e6, 3)])
def test_its_accuracy_is_that_of_the_exit(deadline, exit, scores):
    choice = exit_for_deadline(TIMES, deadline, scores)
    right = int((scores.prediction[exit] == scores.labels).sum())
    assert choice.policy.promise.exit_index == exit
    assert choice.predicted_accuracy == right / scores.num_images
    # The bootstrap of a mean of ones and zeros is a binomial distribution.
    exact = np.array(binom(scores.num_images, right / scores.num_images).interval(0.95)) / scores.num_images
    np.testing.assert_allclose(choice.interval, exact, atol=1.5 / scores.num_images)
    assert set(choice.policy.exits(scores)) == {exit}
    assert evaluate_policy(choice.policy, scores, TIMES).mean_cost == choice.predicted_cost == TIMES[exit]


def test_the_saved_policy_knows_its_promise(scores, tmp_path):
    choice = exit_for_deadline(TIMES, 5, scores, metadata={"network": {"name": "msdnet_tiny"}})
    choice.policy.save(tmp_path / "policy.json")
    policy = load_policy(tmp_path / "policy.json")
    assert policy == choice.policy
    expected = {"policy": "deadline", "deadline": 5.0, "exit_index": 1, "unit": "ms", "cost_per_exit": TIMES}
    assert policy.metadata == policy.metadata | expected | {"network": {"name": "msdnet_tiny"}}
    predicted = policy.metadata["predicted"]
    assert predicted["cost"] == 4.0
    assert predicted["accuracy"] == choice.predicted_accuracy
    assert predicted["accuracy_interval"] == list(choice.interval)
    assert predicted["exit_shares"] == [0, 1, 0, 0]


def test_without_scores_nothing_is_predicted(scores, tmp_path):
    alone, scored = exit_for_deadline(TIMES, 5.0), exit_for_deadline(TIMES, 5.0, scores)
    assert isnan(alone.predicted_accuracy)
    assert all(isnan(end) for end in alone.interval)
    assert alone.policy.thresholds == scored.policy.thresholds
    assert "predicted" not in alone.policy.metadata
    assert scored.policy.metadata == scored.policy.metadata | alone.policy.metadata
    alone.policy.save(tmp_path / "policy.json")
    assert load_policy(tmp_path / "policy.json") == alone.policy


def test_scores_without_labels_give_the_exit_and_no_accuracy(scores):
    unlabelled = ExitScores(scores.confidence, temperatures=[2.0] * 4)
    choice = exit_for_deadline(TIMES, 9.2, unlabelled)
    assert choice.policy.promise.exit_index == 2
    assert isnan(choice.predicted_accuracy)
    assert all(isnan(end) for end in choice.interval)
    assert set(choice.policy.exits(unlabelled)) == {2}


@pytest.mark.parametrize(
    ("latencies", "deadline", "message"),
    [
        (TIMES, 1.0, r"within 1.0 ms; the smallest deadline that can be met is 1.5 ms"),
        (TIMES, -1.0, "smallest deadline"),
        (TIMES, nan, "not nan"),
        (TIMES, inf, "not inf"),
        ([], 1.0, "no latencies"),
        (2.0, 5.0, "one cumulative cost for each"),
        ([[1.0, 2.0]], 5.0, "one cumulative cost for each"),
        ([1.0, nan], 5.0, "finite"),
        ([-1.0, 2.0], 5.0, "at least 0"),
        ([1.0, 1.0], 5.0, "more than the one before"),
    ],
)
def test_what_cannot_be_is_named(latencies, deadline, message):
    with pytest.raises(UserError, match=message):
        exit_for_deadline(latencies, deadline)


def test_latencies_of_another_network_are_named(scores):
    with pytest.raises(UserError, match="each of the 4 exits"):
        exit_for_deadline([1.0, 2.0], 5.0, scores)


def test_one_exit():
    choice = exit_for_deadline([2.0], 2.0)
    assert choice.policy.promise.exit_index == 0
    assert choice.policy == ExitPolicy((), metadata=choice.policy.metadata)
