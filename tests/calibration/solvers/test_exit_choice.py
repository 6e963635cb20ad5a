"""Policies that use some of the exits: what they keep, and that they win on other images."""

from math import inf, isnan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranet.calibration import (
    CostTable,
    ExitScores,
    calibrate,
    calibrate_each,
    checked_costs,
    evaluate_policy,
    load_policy,
)
from ranet.calibration.solvers.exit_choice import ExitSetJudge, restricted
from ranet.errors import UserError
from ranet.inference.stages.fused_stages import used_exits
from tests.calibration.exit_choices import decided, free_cuts, lifelike, stages_and_heads, tables

FAMILIES = ["geometric", "margin", "one_threshold", "patience", "optimal"]


def test_an_exit_whose_cut_and_head_are_dear_is_not_used():
    scores = lifelike(3000)
    costs = stages_and_heads([1.0] * 5, [0.1, 0.1, 4.0, 0.1, 0.1], 0.02)
    for family in ("geometric", "one_threshold", "optimal"):
        for one in calibrate_each(scores, costs, [1.5, 2.5, 3.5, 4.5], policy=family):
            assert 2 not in one.used_exits
            assert one.exit_shares[2] == 0


@pytest.mark.parametrize("family", FAMILIES)
def test_where_cuts_are_free_and_all_exits_are_used_it_is_calibrate(family, monkeypatch):
    scores, costs = lifelike(800, 4), [1.0, 2.5, 4.0, 9.0]
    every_exit = (0, 1, 2, 3)
    monkeypatch.setattr(ExitSetJudge, "choose", lambda *_: (every_exit, None))
    for budget in (1.3, 3.0, 6.0):
        one = calibrate(scores, free_cuts(costs), budget, policy=family)
        other = calibrate(scores, free_cuts(costs).cumulative(every_exit), budget, policy=family)
        if one.used_exits == every_exit:
            assert decided(one) == decided(other)
            assert one.predicted_cost == other.predicted_cost
            assert one.interval == other.interval
        else:  # an exit that free thresholds pass by is no cut
            assert family == "optimal"


def test_patience_uses_all_exits_however_dear():
    scores, costs = lifelike(500, 4), stages_and_heads([1.0] * 4, [0.1] * 4, 2.0)
    cumulative = costs.cumulative(range(4))
    result = calibrate(scores, costs, 6.0, policy="patience", alternatives=False)
    assert decided(result) == decided(calibrate(scores, cumulative, 6.0, policy="patience", alternatives=False))
    assert result.used_exits == (0, 1, 2, 3)
    np.testing.assert_array_equal(result.cost_per_exit, cumulative)
    # The whole network as one stage costs 4.1, but is none of its policies.
    rich = calibrate(scores, costs, 1e3, policy="patience", alternatives=False)
    assert (rich.predicted_cost, rich.used_exits) == (cumulative[-1], (0, 1, 2, 3))
    # Where an exit alone may be chosen, it is that stage.
    rich = calibrate(scores, costs, 1e3, policy="patience")
    assert (rich.predicted_cost, rich.used_exits) == (costs.stages[0, -1], (3,))
    with pytest.raises(UserError, match=r"possible budgets are 1\.1 ms .* to 10\.4 ms"):
        calibrate(scores, costs, 1.0, policy="patience")


@given(
    family=st.sampled_from(FAMILIES), exits=st.integers(1, 5), images=st.integers(1, 60), fraction=st.floats(0, 1.2),
    seed=st.integers(0, 1000), tied=st.booleans(), data=st.data(),
)  # fmt: skip
def test_what_every_choice_keeps(family, exits, images, fraction, seed, tied, data, tmp_path_factory):
    scores = lifelike(images, exits, seed=seed)
    if tied:
        rounded = scores.confidence.round(1)
        scores = ExitScores(rounded, scores.prediction, labels=scores.labels, margin=scores.margin.round(1))
        family = "geometric" if family == "optimal" else family
    costs = data.draw(tables(exits))
    every_exit = costs.cumulative(range(exits))
    least, most = (every_exit[0], every_exit[-1]) if family == "patience" else (costs.alone[0], costs.alone[-1])
    budget = max(least, least + fraction * (most - least))
    result = calibrate(scores, costs, budget, policy=family, unit="ms")
    checked_costs(result.cost_per_exit, exits)
    assert result.predicted_cost <= budget * (1 + 1e-12)
    unused = [k for k in range(exits) if k not in result.used_exits]
    assert not result.exit_shares[unused].any()
    assert list(result.used_exits) == used_exits(result.policy)
    if result.used_exits[-1] == exits - 1:
        # What the engine runs is what was paid for.
        expected = costs.cumulative(used_exits(result.policy))
        np.testing.assert_allclose(result.cost_per_exit[list(result.used_exits)], expected[list(result.used_exits)])
    seen = evaluate_policy(result.policy, scores, result.cost_per_exit)
    assert (seen.mean_cost, seen.accuracy) == (result.predicted_cost, pytest.approx(result.predicted_accuracy))
    path = tmp_path_factory.mktemp("policy") / "policy.json"
    result.policy.save(path)
    metadata = load_policy(path).metadata
    assert metadata["used_exits"] == list(result.used_exits)
    assert metadata["cost_per_exit"] == result.cost_per_exit.tolist()
    assert (metadata["unit"], metadata["policy"]) == ("ms", family)


def test_an_exit_that_the_solution_passes_by_is_dropped_and_the_saving_spent(monkeypatch):
    scores, costs = lifelike(60, 3), stages_and_heads([1.0] * 3, [0.1] * 3, 0.5)
    monkeypatch.setattr(ExitSetJudge, "choose", lambda *_: ((0, 1, 2), None))
    # Of 60 images the first exit gets none.
    budget = float(costs.cumulative([0, 1, 2])[-1]) - 0.02
    rule = calibrate(scores, costs.cumulative([0, 1, 2]), budget, alternatives=False)
    assert rule.policy.thresholds[0] == inf
    result = calibrate(scores, costs, budget, alternatives=False)
    assert result.used_exits == (2,)
    assert result.predicted_cost == costs.stages[0, 2]


@pytest.mark.parametrize("budget", [6.2, 50.0])
def test_a_budget_for_the_whole_network_makes_no_cut(budget):
    scores, costs = lifelike(300, 4), stages_and_heads([1.5] * 4, [0.2] * 4, 1.0)
    for family in ("geometric", "one_threshold", "optimal"):
        result = calibrate(scores, costs, budget, policy=family)
        assert result.policy.thresholds == (inf, inf, inf)
        assert (result.used_exits, result.predicted_cost, result.verdict) == ((3,), 6.2, None)


def gains_on_other_images(costs: CostTable, seeds: range) -> np.ndarray:
    """Accuracy on test less that of all exits at the same budgets."""
    gains = []
    for seed in seeds:
        scores = lifelike(15_000, 5, seed=seed)
        validation, test = scores.subset(slice(0, 5000)), scores.subset(slice(5000, None))
        every_exit = costs.cumulative(range(5))
        least, most = costs.alone[[0, -1]]
        budgets = [least + fraction * (most - least) for fraction in (0.15, 0.4, 0.65)]
        chosen, rule = calibrate_each(validation, costs, budgets), calibrate_each(validation, every_exit, budgets)
        for one, other in zip(chosen, rule, strict=True):
            seen = evaluate_policy(one.policy, test, one.cost_per_exit)
            beside = evaluate_policy(other.policy, test, every_exit)
            assert seen.mean_cost == pytest.approx(other.policy.metadata["budget"], rel=0.03)
            gains.append(seen.accuracy - beside.accuracy)
    return np.array(gains)


def test_dear_cuts_make_fewer_exits_more_accurate_on_other_images_and_free_cuts_lose_nothing():
    dear = gains_on_other_images(stages_and_heads([1.0] * 5, [0.25] * 5, 1.5), range(3))
    free = gains_on_other_images(free_cuts([1.25, 2.5, 3.75, 5.0, 6.25]), range(3))
    assert dear.mean() > 0.004
    assert dear.min() > -0.002
    assert free.mean() > -0.001
    assert free.min() > -0.004


def test_without_labels_the_exits_are_those_by_which_the_last_answer_is_given():
    scores, costs = lifelike(2000), stages_and_heads([1.0] * 5, [0.3] * 5, 0.4)
    unlabelled = ExitScores(scores.confidence, scores.prediction)
    told = ExitScores(scores.confidence, scores.prediction, labels=scores.prediction[-1])
    one, other = (calibrate(of, costs, 2.5) for of in (unlabelled, told))
    assert decided(one) == decided(other)
    assert one.verdict == other.verdict
    assert len(one.used_exits) < 5
    assert isnan(one.predicted_accuracy)
    with pytest.raises(UserError, match="needs labels or predictions"):
        calibrate(ExitScores(scores.confidence), costs, 2.5)


def test_many_budgets_give_what_each_gives_alone_and_temperatures_are_kept():
    plain = lifelike(900)
    scores = ExitScores(plain.confidence, plain.prediction, labels=plain.labels, temperatures=[1, 2, 3, 4, 5])
    costs = stages_and_heads([1.0] * 5, [0.3] * 5, 0.4)
    budgets = [1.4, 2.0, 3.0, 4.0, 9.0]
    together = calibrate_each(scores, costs, budgets, metadata={"network": {"name": "msdnet_tiny"}})
    assert len({one.used_exits for one in together}) > 1
    for budget, one in zip(budgets, together, strict=True):
        alone = calibrate(scores, costs, budget)
        assert decided(one) == decided(alone)
        assert one.verdict == alone.verdict
        assert one.policy.metadata.get("exits_gain") == (None if one.verdict is None else one.verdict.gain)
        assert one.policy.temperatures == (1, 2, 3, 4, 5)
        assert one.policy.metadata["network"] == {"name": "msdnet_tiny"}
        assert one.policy.metadata["budget"] == budget
    assert "exceeds the cost of the last exit (5.3 ms)" in together[-1].notices[0]


def test_scores_of_some_exits_are_as_of_a_network_without_the_others():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(4, 30, 5)).astype(np.float32), rng.integers(5, size=30)
    some = restricted(ExitScores.from_logits(logits, labels, temperatures=[1, 2, 3, 4]), (1, 3))
    alone = ExitScores.from_logits(logits[[1, 3]], labels, temperatures=[2, 4])
    for name in ("confidence", "margin", "entropy", "prediction", "correct", "correct_top5", "labels", "temperatures"):
        np.testing.assert_array_equal(getattr(some, name), getattr(alone, name))
    right = rng.uniform(size=(4, 30)) < 0.5
    of_right_answers = restricted(ExitScores(rng.uniform(size=(4, 30)), correct=right), (0, 3))
    np.testing.assert_array_equal(of_right_answers.correct, right[[0, 3]])


def test_what_cannot_be_is_named():
    scores, costs = lifelike(50, 3), stages_and_heads([1.0] * 3, [0.1] * 3, 0.5)
    with pytest.raises(UserError, match=r"0\.5 ms; possible budgets are 1\.1 ms .* to 3\.1 ms \(all leave at exit 3\)"):
        calibrate(scores, costs, 0.5)
    with pytest.raises(UserError, match="costs have 2 exits and the scores 3"):
        calibrate(scores, CostTable("ms", np.ones((2, 2))), 1.0)
    with pytest.raises(UserError, match="policy"):
        calibrate(scores, costs, 2.0, policy="geometrical")
    with pytest.raises(UserError, match="Exit scores are needed"):
        calibrate(scores.confidence, costs, 2.0)
