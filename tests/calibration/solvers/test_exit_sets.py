"""Sets of exits, judged by hand."""

from math import inf, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq

from ranet.calibration import CostTable, ExitScores, calibrate
from ranet.calibration.solvers import exit_choice
from ranet.calibration.solvers.cross_fitting import deal
from ranet.calibration.solvers.exit_choice import ExitSetJudge, all_sets, quotas_within
from tests.calibration.exit_choices import lifelike, stages_and_heads, tables


@given(costs=tables(), fraction=st.floats(0.01, 0.99), images=st.integers(5, 500))
def test_quotas_spend_the_budget_to_a_few_images(costs, fraction, images):
    sets = all_sets(costs.num_exits)
    per_exit = np.array([costs.cumulative(used) for used in sets])
    first = np.array([each[used[0]] for each, used in zip(per_exit, sets, strict=True)])
    budget = float(first.min() + fraction * (per_exit[:, -1].max() - first.min()))
    member = np.array([np.isin(np.arange(costs.num_exits), used) for used in sets])
    quotas = quotas_within(budget, member, per_exit, images)
    assert (quotas.sum(axis=1) == images).all()
    assert (quotas >= 0).all()
    assert not quotas[~member].any()
    cost = (quotas * per_exit).sum(axis=1) / images
    spent = np.clip(budget, first, per_exit[:, -1])
    slack = costs.num_exits * (per_exit[:, -1] - first) / images
    assert (np.abs(cost - spent) <= slack + 1e-9).all()


def judged_by_hand(scores: ExitScores, costs: CostTable, used: tuple[int, ...], budget: float) -> list[float]:
    """What each image brings under a set of exits, told image by image."""
    confidence, right, images = scores.confidence, scores.correct, scores.num_images
    cumulative = costs.cumulative(used)
    price = (right[-1].mean() - right[0].mean()) / (costs.stages[0, -1] - costs.stages[0, 0])
    folds = deal([confidence, right], 2)
    worth = [0.0] * images

    def shares(log_ratio: float) -> list[float]:
        powers = [np.exp(log_ratio * place) for place in range(len(used))]
        return [power / sum(powers) for power in powers]

    for fold in range(2):
        others = [i for i in range(images) if folds[i] != fold]
        at, thresholds = shares(0.0), {}
        if len(used) > 1:

            def over(x: float) -> float:
                return sum(share * cumulative[k] for share, k in zip(shares(x), used, strict=True)) - budget

            at = shares(brentq(over, -12, 12, xtol=1e-14))
        left = list(others)
        for share, k in zip(at[:-1], used[:-1], strict=True):
            left.sort(key=lambda i: -confidence[k, i])
            quota = int(len(others) * share)
            thresholds[k] = confidence[k, left[quota - 1]] if 0 < quota <= len(left) else inf
            left = [i for i in left if confidence[k, i] < thresholds[k]]
        for i in np.flatnonzero(folds == fold):
            k = next((k for k in used[:-1] if confidence[k, i] >= thresholds[k]), used[-1])
            worth[i] = right[k, i] - max(price, 0) * cumulative[k]
    return worth


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("cut", [0.0, 1.0])
def test_the_choice_is_that_of_all_sets_judged_by_hand(seed, cut):
    exits = 3 + seed % 2
    scores = lifelike(40, exits, seed=seed)
    costs = stages_and_heads([1.0, 1.5, 2.0, 1.0][:exits], [0.3, 0.9, 0.4, 0.2][:exits], cut)
    judge = ExitSetJudge(scores.confidence, scores.correct, costs)
    for fraction in (0.2, 0.5, 0.8):
        budget = float(costs.stages[0, 0] + fraction * (costs.stages[0, -1] - costs.stages[0, 0]))
        base = np.array(judged_by_hand(scores, costs, tuple(range(exits)), budget))
        bounds = {tuple(range(exits)): 0.0}
        verdicts = judge.judge(all_sets(exits), budget)
        for used in all_sets(exits)[1:]:
            if costs.cumulative(used)[used[0]] > budget:
                assert used not in verdicts
                continue
            gains = np.array(judged_by_hand(scores, costs, used, budget)) - base
            bounds[used] = gains.mean() - gains.std(ddof=1) / sqrt(40)
            assert verdicts[used].gain == pytest.approx(gains.mean(), abs=1e-12)
            assert verdicts[used].gain - verdicts[used].error == pytest.approx(bounds[used], abs=1e-12)
        assert judge.choose(budget)[0] == max(bounds, key=lambda used: bounds[used])


def test_where_many_exits_are_one_is_dropped_after_the_other(monkeypatch):
    scores, costs = lifelike(1500, 6), stages_and_heads([1.0] * 6, [0.3, 0.3, 3.0, 0.3, 0.3, 0.3], 0.5)
    judge = ExitSetJudge(scores.confidence, scores.correct, costs)
    every_exit = tuple(range(6))
    for budget in (1.8, 2.5, 4.0):
        verdicts = judge.judge(all_sets(6), budget)
        left, seen = every_exit, {every_exit: 0.0}
        while True:
            fewer = [tuple(k for k in left if k != one) for one in left[:-1]]
            fewer = [used for used in fewer if used in verdicts]
            if not fewer:
                break
            seen |= {used: verdicts[used].gain - verdicts[used].error for used in fewer}
            left = max(fewer, key=lambda used: verdicts[used].gain)
        enumerated = judge.choose(budget)[0]
        monkeypatch.setattr(exit_choice, "MOST_ENUMERATED", 5)
        dropped = judge.choose(budget)[0]
        monkeypatch.undo()
        assert dropped == max(seen, key=lambda used: seen[used])
        assert 2 not in dropped
        assert 2 not in enumerated


def test_one_image_chooses_nothing():
    scores, costs = lifelike(1, 3), stages_and_heads([1.0] * 3, [0.1] * 3, 5.0)
    assert ExitSetJudge(scores.confidence, scores.correct, costs).choose(2.0) == ((0, 1, 2), None)
    assert calibrate(scores, costs, 2.0).predicted_cost == 1.1
