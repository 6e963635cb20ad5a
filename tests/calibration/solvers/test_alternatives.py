"""Exits alone and cheaper policies, where they are at least as accurate as the policy that spends the budget."""

from math import inf
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranet.calibration import (
    POLICIES,
    CostTable,
    ExitPolicy,
    ExitScores,
    calibrate,
    calibrate_each,
    evaluate_policy,
    load_policy,
)
from ranet.calibration.policies.intervals import accuracy_difference
from tests.calibration.exit_choices import lifelike, stages_and_heads

COSTS = [1.0, 2.0, 4.0]


def unaware(images: int = 1000) -> ExitScores:
    """Three exits that are right for 40, 76 and 90 of 100 images, and have no idea for which."""
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.1, 1, size=(3, images))
    correct = (np.arange(images) % 100) < np.array([[40], [76], [90]])
    return ExitScores(
        confidence,
        np.where(correct, 0, rng.integers(1, 3, size=(3, images))),
        labels=np.zeros(images),
        margin=confidence**2,
        entropy=confidence - 1,
    )


@pytest.mark.parametrize("family", [family for family in POLICIES if family != "optimal"])
def test_an_exit_alone_is_chosen_where_it_is_more_accurate(family: str, tmp_path: Path) -> None:
    scores = unaware()
    result = calibrate(scores, COSTS, 2.0, policy=family)
    own = calibrate(scores, COSTS, 2.0, policy=family, alternatives=False)
    assert own.predicted_accuracy < 0.76
    assert (own.instead, own.policy.metadata.get("chosen")) == (None, None)
    assert (result.predicted_accuracy, result.predicted_cost) == (0.76, 2.0)
    assert result.policy.thresholds == (inf, -inf)
    assert result.cost_interval == (2.0, 2.0)
    assert result.instead is not None
    assert (result.instead.cost, result.instead.accuracy) == (own.predicted_cost, own.predicted_accuracy)
    right = scores.correct_at(own.policy.exits(scores))
    assert right is not None
    assert (result.instead.gain, result.instead.interval) == accuracy_difference(scores.correct[1], right)
    result.policy.save(tmp_path / "policy.json")
    metadata = load_policy(tmp_path / "policy.json").metadata
    assert (metadata["policy"], metadata["budget"]) == (family, 2.0)
    assert (metadata["chosen"], metadata["exit_index"]) == ("exit 2 alone", 1)
    assert metadata["instead_of"] == {"cost": own.predicted_cost, "accuracy": own.predicted_accuracy}


@pytest.mark.parametrize("family", POLICIES)
@pytest.mark.parametrize("budget", [1.0, 2.5, 4.0, 9.0])
def test_of_equal_exits_the_first_is_chosen(family: str, budget: float) -> None:
    rng = np.random.default_rng(0)
    one = np.tile(rng.normal(size=(1, 200, 5)), (3, 1, 1))
    result = calibrate(ExitScores.from_logits(one, rng.integers(5, size=200)), COSTS, budget, policy=family)
    assert result.exit_shares.tolist() == [1, 0, 0]
    assert result.predicted_cost == 1.0


def test_a_policy_of_a_smaller_budget_is_chosen_where_the_last_exit_is_worse() -> None:
    """The better half of the images should leave at the first exit, the others at the second, and none at the last."""
    images = np.arange(1000)
    confidence = np.array([1 - images / 1001, np.ones(1000), np.ones(1000)])
    correct = np.array([images < 500, images >= 500, np.zeros(1000)])
    result = calibrate(ExitScores(confidence, correct=correct), COSTS, 4.0, policy="one_threshold")
    assert result.instead is not None
    assert result.instead.chosen == "a cheaper policy"
    assert (result.instead.cost, result.instead.accuracy) == (4.0, 0.0)
    # Of budgets with a distance of 3/19, one is at least as near to 1.5, the best that there is.
    assert result.predicted_accuracy >= 1 - 3 / 38
    assert result.policy.metadata["budget"] == 4.0


def test_without_labels_nothing_is_compared() -> None:
    known = unaware()
    scores = ExitScores(known.confidence, known.prediction)
    for budget in (2.0, 4.0):
        one, other = (calibrate(scores, COSTS, budget, alternatives=which) for which in (True, False))
        assert one.policy.thresholds == other.policy.thresholds
        assert one.instead is None


@given(
    family=st.sampled_from(list(POLICIES)), exits=st.integers(1, 5), images=st.integers(1, 40),
    classes=st.integers(2, 4), seed=st.integers(0, 10_000),
    fractions=st.lists(st.floats(0, 1.1), min_size=1, max_size=4), fused=st.booleans(),
)  # fmt: skip
def test_what_is_promised_never_loses(
    family: str, exits: int, images: int, classes: int, seed: int, fractions: list[float], fused: bool
) -> None:
    """To an exit alone within the budget, to the family's own policy, and to a smaller budget."""
    rng = np.random.default_rng(seed)
    logits, labels = rng.normal(size=(exits, images, classes)), rng.integers(classes, size=images)
    scores = ExitScores.from_logits(logits + rng.uniform(0, 2) * np.eye(classes)[labels], labels)
    table = stages_and_heads(rng.uniform(0.5, 2, size=exits).tolist(), [0.1] * exits, 0.3)
    alone = table.alone if fused else table.cumulative(range(exits))
    least, most = table.cumulative(range(exits))[[0, -1]]
    budgets = sorted(least + fraction * (most - least) for fraction in fractions)
    costs = table if fused else alone
    found = calibrate_each(scores, costs, budgets, policy=family)
    own = calibrate_each(scores, costs, budgets, policy=family, alternatives=False)
    accuracies = scores.correct.mean(axis=1)
    for budget, one, other in zip(budgets, found, own, strict=True):
        assert one.predicted_cost <= budget * (1 + 1e-12)
        assert one.predicted_accuracy >= accuracies[alone <= budget].max(initial=0)
        assert one.predicted_accuracy >= other.predicted_accuracy
        assert one.predicted_cost <= other.predicted_cost or one.predicted_accuracy > other.predicted_accuracy
        seen = evaluate_policy(one.policy, scores, one.policy.metadata["cost_per_exit"])
        assert (seen.mean_cost, seen.accuracy) == pytest.approx((one.predicted_cost, one.predicted_accuracy))
        assert one.policy.metadata["budget"] == budget
        assert (one.instead is None) == ("chosen" not in one.policy.metadata)
    promised = [one.predicted_accuracy for one in found]
    assert promised == sorted(promised)


def test_an_exit_alone_is_one_fused_stage() -> None:
    costs = CostTable("ms", [[1.0, 1.5, 4.0], [0, 2.0, 3.0], [0, 0, 2.5]])
    # Patience itself uses all exits, of which the second costs 3.
    result = calibrate(unaware(), costs, 2.0, policy="patience")
    assert result.policy.thresholds == (inf, -inf)
    assert (result.used_exits, result.predicted_cost) == ((1,), 1.5)
    assert result.policy.metadata["used_exits"] == [1]
    assert result.verdict is None


def test_the_choice_saves_much_and_loses_little_on_other_images() -> None:
    """Of many candidates one wins by chance; what it wins there it does not keep, but it is cheaper."""
    costs, gains, spent = np.array([1.0, 2.0, 3.0, 4.0, 5.0]), [], []
    for seed in range(8):
        scores = lifelike(6000, seed=seed)
        validation, test = scores.subset(slice(0, 1000)), scores.subset(slice(1000, None))
        for budget in (2.0, 3.5, 5.0):
            one, other = (calibrate(validation, costs, budget, alternatives=which) for which in (True, False))
            seen, beside = (evaluate_policy(of.policy, test, costs) for of in (one, other))
            gains.append(seen.accuracy - beside.accuracy)
            spent.append(seen.mean_cost / beside.mean_cost)
    assert np.mean(spent) < 0.95
    assert np.mean(gains) > -0.005


def test_exits_alone_compare_nothing() -> None:
    """So the engine computes no other head for them, whatever the family compares."""
    result = calibrate(unaware(), COSTS, 2.0, policy="patience")
    assert result.policy.score == "confidence"
    assert result.policy.possible_exits.tolist() == [False, True, False]
    assert ExitPolicy((0.5, inf, -inf, 0.2)).possible_exits.tolist() == [True, False, True, False, False]
