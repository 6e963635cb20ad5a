"""Free thresholds: the true optimum of small problems, near it for large ones, and only where they win."""

from itertools import product

import numpy as np
import pytest

from ranet.calibration import ExitScores, calibrate, calibrate_each, evaluate_policy
from ranet.calibration.solvers.cross_fitting import OptimalSolver, ScoreChoice, Verdict, deal
from ranet.calibration.solvers.optimal import Problem, running_mean
from ranet.cost.table import ImageCosts


def synthetic(rng: np.random.Generator, images: int, skill: list[float]) -> ExitScores:
    """Exits of so much skill: the confidence tells how likely the answer is right, independently at each exit."""
    hard = rng.uniform(size=images)
    right = 1 / (1 + np.exp(-(np.array(skill)[:, None] - 5 * hard + rng.normal(size=(len(skill), images)))))
    correct = rng.uniform(size=right.shape) < right
    return ExitScores(right, correct=correct)


def best_of_all(scores: ExitScores, costs: list[float], budget: float) -> float:
    """The highest accuracy of any thresholds within the budget, told image by image."""
    choices = [[*sorted(set(exit.tolist())), float("inf")] for exit in scores.confidence[:-1]]
    best = -1.0
    for thresholds in product(*choices):
        cost = right = 0.0
        for i in range(scores.num_images):
            k = next((k for k, t in enumerate(thresholds) if scores.confidence[k, i] >= t), len(thresholds))
            cost += costs[k]
            right += scores.correct[k, i]
        if cost <= budget * scores.num_images + 1e-9:
            best = max(best, right / scores.num_images)
    return best


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("fraction", [0.0, 0.2, 0.55, 0.9])
def test_three_exits_and_forty_images_give_the_true_optimum(seed, fraction):
    scores = synthetic(np.random.default_rng(seed), images=40, skill=[1, 2, 2.5])
    costs = [1.0, 2.5, 4.0]
    budget = costs[0] + fraction * (costs[-1] - costs[0])
    result = calibrate(scores, costs, budget, policy="optimal", smoothing=0, folds=0)
    assert result.predicted_accuracy == pytest.approx(best_of_all(scores, costs, budget))
    assert result.predicted_cost <= budget


@pytest.mark.parametrize("fraction", [0.15, 0.4, 0.7])
def test_the_path_comes_near_the_optimum_where_enumeration_is_too_long(fraction):
    scores = synthetic(np.random.default_rng(5), images=100, skill=[1, 2, 2.5])
    costs = np.array([1.0, 2.5, 4.0])
    budget = costs[0] + fraction * (costs[-1] - costs[0])
    problem = Problem(scores.confidence, scores.correct, ImageCosts(costs), smoothing=0)
    # The same problem both ways: 101^2 combinations are still enumerated.
    optimum = problem.outcome(problem._enumerate(budget).thresholds)[0]
    cheap = [point for point in problem.path if point.cost <= budget][-1]
    dear = next(point for point in problem.path if point.cost > budget)
    met = problem._between(cheap, dear, budget)
    accuracy, cost = problem.outcome(met.thresholds)
    assert cost <= budget
    assert optimum - 0.04 <= accuracy <= optimum


def test_raising_one_threshold_at_a_time_never_lowers_the_objective():
    scores = synthetic(np.random.default_rng(2), images=500, skill=[1, 1.5, 2, 3])
    costs = np.array([1.0, 2.0, 3.0, 5.0])
    problem = Problem(scores.confidence, scores.correct, ImageCosts(costs), smoothing=0)
    rng = np.random.default_rng(0)
    for price in (0.01, 0.05, 0.2):
        start = rng.uniform(0.2, 1, size=3).astype(np.float32)
        before, after = problem.outcome(start), problem.outcome(problem.ascend(start, price))
        assert after[0] - price * after[1] >= before[0] - price * before[1] - 1e-12


def test_an_exit_that_is_no_better_than_the_one_before_is_left_out():
    """Exit 2 repeats exit 1 with more confidence: the geometric rule sends its share there, free thresholds do not."""
    rng = np.random.default_rng(1)
    both = synthetic(rng, images=16_000, skill=[1.5, 1.5, 4])
    confidence, correct = both.confidence.copy(), both.correct.copy()
    confidence[1], correct[1] = confidence[0] ** 0.5, correct[0]
    scores = ExitScores(confidence, correct=correct)
    validation, test = scores.subset(slice(0, 6000)), scores.subset(slice(6000, None))
    costs = [1.0, 2.0, 3.0]
    free, rule = (calibrate(validation, costs, 1.8, policy=family) for family in ("optimal", "geometric"))
    assert free.parameters["accepted"]
    assert free.exit_shares[1] < 0.5 * rule.exit_shares[1]
    seen, beside = (evaluate_policy(of.policy, test, costs) for of in (free, rule))
    assert seen.accuracy > beside.accuracy + 0.01
    assert seen.mean_cost == pytest.approx(1.8, rel=0.02)


@pytest.mark.slow
def test_what_does_not_win_on_other_images_is_not_used():
    """Where all exits are alike, a gain is chance, which is accepted in one case of twenty."""
    accepted = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        confidence, correct = rng.uniform(size=(3, 400)), rng.uniform(size=(3, 400)) < 0.6
        solver = OptimalSolver(
            np.float32(confidence), correct, ImageCosts(np.array([1.0, 2.0, 3.0])), smoothing=0.02, folds=2
        )
        thresholds, told = solver.solve(1.9)
        accepted += bool(told["accepted"])
        if not told["accepted"]:
            assert np.array_equal(thresholds, solver.geometric.solve(1.9)[0])
    assert accepted <= 9  # of 60; more than nine have a chance below one in a thousand


def test_many_budgets_give_what_each_gives_alone():
    scores = synthetic(np.random.default_rng(3), images=800, skill=[1, 2, 3])
    costs = [1.0, 2.0, 4.0]
    budgets = [1.2, 2.0, 3.9]
    together = calibrate_each(scores, costs, budgets, policy="optimal")
    for budget, result in zip(budgets, together, strict=True):
        alone = calibrate(scores, costs, budget, policy="optimal")
        assert alone.policy == result.policy


def test_folds_are_of_equal_size_and_do_not_depend_on_the_order():
    scores = np.random.default_rng(0).uniform(size=(4, 103)).astype(np.float32)
    folds = deal([scores], folds=4)
    assert sorted(np.bincount(folds)) == [25, 26, 26, 26]
    order = np.random.default_rng(1).permutation(103)
    assert np.array_equal(deal([scores[:, order]], folds=4), folds[order])


@pytest.mark.parametrize("width", [0, 1, 3, 6, 50])
def test_the_running_mean_is_that_of_its_window(width):
    values = np.random.default_rng(0).normal(size=17)
    expected = []
    for i in range(17):
        reach = min(width // 2, i, 16 - i)
        expected.append(values[i - reach : i + reach + 1].mean())
    np.testing.assert_allclose(running_mean(values, width), expected)


def blurred(scores: ExitScores, rng: np.random.Generator) -> np.ndarray:
    """The scores with noise: they still rise with the chance to be right, but tell less of it."""
    ranks = np.argsort(np.argsort(scores.confidence + rng.normal(scale=0.5, size=scores.confidence.shape)))
    return np.float32(ranks / scores.num_images)


def test_a_score_that_tells_right_from_wrong_better_is_chosen():
    rng = np.random.default_rng(7)
    scores = synthetic(rng, images=4000, skill=[2, 3, 4])
    sharp, dull = scores.confidence, blurred(scores, rng)
    costs = np.array([1.0, 2.0, 3.0])
    choice = ScoreChoice({"confidence": dull, "margin": sharp}, scores.correct, ImageCosts(costs), folds=2)
    name, verdict = choice.near(1.7)
    assert name == "margin"
    assert verdict is not None
    assert verdict.accepted
    choice = ScoreChoice({"confidence": sharp, "margin": dull}, scores.correct, ImageCosts(costs), folds=2)
    assert choice.near(1.7) == ("confidence", None)

    both = ExitScores(dull, correct=scores.correct, margin=sharp)
    result, rule = (calibrate(both, costs, 1.7, policy=policy) for policy in ("optimal", "geometric"))
    assert result.policy.score == "margin"
    assert result.parameters["score_gain"] == verdict.gain
    assert result.predicted_accuracy > rule.predicted_accuracy + 0.01
    assert calibrate(both, costs, 1.7, policy="optimal", score="confidence").policy.score == "confidence"


def test_the_first_score_is_kept_unless_another_wins_by_more_than_chance():
    rng = np.random.default_rng(11)
    costs, kept = np.array([1.0, 2.0, 3.0]), 0
    for _ in range(60):
        correct = rng.uniform(size=(3, 300)) < 0.7
        candidates = {name: np.float32(rng.uniform(size=(3, 300))) for name in ("confidence", "margin")}
        kept += ScoreChoice(candidates, correct, ImageCosts(costs), folds=2).near(1.9)[0] == "confidence"
    assert kept >= 51  # of 60, at a rate of 19 in 20: fewer have a chance below one in a thousand


def test_a_verdict_is_the_mean_and_its_standard_error():
    gains = np.array([1.0, 0.0, 0.0, -1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0])
    verdict = Verdict.of(gains)
    assert (verdict.gain, verdict.error) == (pytest.approx(0.2), pytest.approx(gains.std(ddof=1) / 10**0.5))
    assert not verdict.accepted
    assert Verdict.of(np.tile(gains, 100)).accepted
    assert not Verdict.of(np.array([1.0])).accepted
