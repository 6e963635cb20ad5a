"""What every solver owes to every budget, whatever the scores."""

from math import inf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ranet.calibration import POLICIES, ExitPolicy, ExitScores, calibrate, calibrate_each, evaluate_policy

FAMILIES = [family for family in POLICIES if family != "optimal"]


@st.composite
def distinct_scores(draw: st.DrawFn, most_images: int = 60) -> ExitScores:
    """Scores no two of which are equal, not even at different exits."""
    exits, images = draw(st.integers(1, 5)), draw(st.integers(1, most_images))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    places = rng.permutation(exits * images).reshape(exits, images).astype(np.float32)
    confidence = (places + 1) / (exits * images + 1)
    prediction = rng.integers(0, draw(st.integers(1, 4)), size=(exits, images))
    labels = rng.integers(0, 2, size=images)
    return ExitScores(confidence, prediction, labels=labels, margin=confidence**2, entropy=confidence - 1)


@st.composite
def tied_scores(draw: st.DrawFn) -> ExitScores:
    """Scores of few values, saturated ones among them."""
    exits, images = draw(st.integers(1, 5)), draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    values = np.float32(draw(st.sampled_from([[1.0], [0.5, 1.0], [0.25, 0.5, 0.75, 1.0]])))
    confidence = rng.choice(values, size=(exits, images))
    prediction = rng.integers(0, 3, size=(exits, images))
    return ExitScores(
        confidence, prediction, labels=rng.integers(0, 3, size=images), margin=confidence, entropy=confidence - 1
    )


def increasing_costs(exits: int, seed: int) -> np.ndarray:
    return np.cumsum(np.random.default_rng(seed).uniform(0.1, 5.0, size=exits))


@given(
    scores=distinct_scores(),
    family=st.sampled_from(FAMILIES),
    fraction=st.floats(0, 1),
    seed=st.integers(0, 1000),
)
def test_the_budget_is_met_within_one_image(scores, family, fraction, seed):
    costs = increasing_costs(scores.num_exits, seed)
    budget = min(costs[0] + fraction * (costs[-1] - costs[0]), costs[-1])
    result = calibrate(scores, costs, budget, policy=family, alternatives=False)
    one_image = (costs[-1] - costs[0]) / scores.num_images
    assert budget - one_image - 1e-9 <= result.predicted_cost <= budget
    seen = evaluate_policy(result.policy, scores, costs)
    assert result.predicted_cost == seen.mean_cost
    assert result.predicted_accuracy == pytest.approx(seen.accuracy)
    np.testing.assert_allclose(result.exit_shares, seen.exit_shares)


@given(scores=tied_scores(), family=st.sampled_from(list(POLICIES)), fraction=st.floats(0, 1.2))
def test_equal_and_saturated_scores_never_break_a_budget(scores, family, fraction):
    costs = increasing_costs(scores.num_exits, seed=scores.num_images)
    budget = costs[0] + fraction * (costs[-1] - costs[0])
    assert calibrate(scores, costs, budget, policy=family).predicted_cost <= budget
    large = calibrate(scores, costs, 100 * budget + 1, policy=family, alternatives=False)
    assert large.predicted_cost == costs[-1]


@given(
    scores=st.one_of(distinct_scores(), tied_scores()),
    family=st.sampled_from(list(POLICIES)),
    fraction=st.floats(0, 1),
    data=st.data(),
)
def test_the_order_of_the_images_changes_nothing(scores, family, fraction, data):
    costs = increasing_costs(scores.num_exits, seed=3)
    budget = min(costs[0] + fraction * (costs[-1] - costs[0]), costs[-1])
    shuffled = scores.subset(data.draw(st.permutations(range(scores.num_images))))
    one, other = (calibrate(of, costs, budget, policy=family) for of in (scores, shuffled))
    assert one.policy.thresholds == other.policy.thresholds
    assert (one.predicted_cost, one.interval) == (other.predicted_cost, other.interval)


@given(scores=distinct_scores(most_images=12), steps=st.integers(2, 6))
def test_more_budget_never_means_less_validation_accuracy_for_the_optimum(scores, steps):
    scores = ExitScores(scores.confidence[:3], scores.prediction[:3], labels=scores.labels)
    costs = increasing_costs(scores.num_exits, seed=5)
    budgets = np.linspace(costs[0], costs[-1], steps)[:-1]
    results = calibrate_each(scores, costs, budgets, policy="optimal", smoothing=0, folds=0)
    accuracies = [result.predicted_accuracy for result in results]
    assert accuracies == sorted(accuracies)


@given(scores=tied_scores())
def test_no_image_leaves_at_an_infinite_threshold_and_all_at_minus_infinity(scores):
    last = scores.num_exits - 1
    assert (ExitPolicy((inf,) * last).exits(scores) == last).all()
    for exit in range(scores.num_exits):
        assert (ExitPolicy.only(exit, scores.num_exits).exits(scores) == exit).all()


@settings(max_examples=settings().max_examples // 3)
@given(seed=st.integers(0, 1000), fraction=st.floats(0, 1))
@pytest.mark.slow
def test_heavy_ties_in_any_order_give_the_same_optimum(seed, fraction):
    rng = np.random.default_rng(seed)
    confidence = rng.choice(np.float32([0.25, 0.5, 0.75, 1.0]), size=(4, 400))
    prediction, labels = rng.integers(0, 3, size=(4, 400)), rng.integers(0, 3, size=400)
    scores = ExitScores(confidence, prediction, labels=labels, margin=rng.permutation(confidence))
    budget = 1 + 3 * fraction
    shuffled = scores.subset(rng.permutation(400))
    for folds in (0, 2):
        one, other = (calibrate(of, [1, 2, 3, 4], budget, policy="optimal", folds=folds) for of in (scores, shuffled))
        assert (one.policy.score, one.policy.thresholds) == (other.policy.score, other.policy.thresholds)
