"""Bootstrap intervals against images drawn one by one, against exact distributions, and against the truth."""

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from ranet.calibration.intervals import LEVEL, accuracy_difference, bootstrap_intervals

COSTS = np.array([1.0, 2.5, 4.0, 9.0])
SHARES = np.array([0.4, 0.3, 0.2, 0.1])
RIGHT = np.array([0.95, 0.9, 0.7, 0.5])


def population(images: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Where images leave and whether they are right there, drawn from the shares and accuracies above."""
    rng = np.random.default_rng(seed)
    exits = rng.choice(4, size=images, p=SHARES)
    return exits, rng.random(images) < RIGHT[exits]


@pytest.mark.parametrize("images", [7, 60, 500])
def test_it_is_the_bootstrap_that_draws_images_one_by_one(images):
    exits, correct = population(images, seed=images)
    rng, resamples = np.random.default_rng(1), 20_000
    accuracies, costs = np.empty(resamples), np.empty(resamples)
    for i in range(resamples):
        drawn = rng.integers(images, size=images)
        accuracies[i], costs[i] = correct[drawn].mean(), COSTS[exits[drawn]].mean()
    intervals = bootstrap_intervals(exits, correct, COSTS, resamples=resamples)
    # The ends of both are quantiles of 20,000 draws: apart by noise, or by one image where the values are few.
    for found, drawn, one_image in ((intervals.accuracy, accuracies, 1.0), (intervals.cost, costs, 8.0)):
        expected = np.quantile(drawn, [0.025, 0.975])
        assert found == pytest.approx(expected, abs=0.05 * drawn.std() + 1.01 * one_image / images)
        assert found == pytest.approx(expected, abs=0.4 * drawn.std())


@pytest.mark.parametrize("level", [0.5, 0.8, 0.95, 0.99])
def test_accuracy_and_two_costs_are_exact_binomials(level):
    """A resample of N images of which a share p is right has a binomial number of right ones."""
    images, right, early = 400, 320, 100
    correct = np.arange(images) < right
    exits = (np.arange(images)[::-1] >= early).astype(int)  # 100 at exit 1, 300 at exit 2
    intervals = bootstrap_intervals(exits, correct, np.array([1.0, 3.0]), level=level, resamples=100_000)
    ends = np.array([(1 - level) / 2, (1 + level) / 2])
    assert intervals.accuracy == pytest.approx(binom.ppf(ends, images, right / images) / images, abs=1.01 / images)
    late = binom.ppf(ends, images, 1 - early / images) / images
    assert intervals.cost == pytest.approx(1.0 + 2.0 * late, abs=2.02 / images)


def test_intervals_hold_the_truth_as_often_as_they_say():
    accuracy, cost = float(SHARES @ RIGHT), float(SHARES @ COSTS)
    repeats, held = 1000, {"accuracy": 0, "cost": 0}
    for seed in range(repeats):
        intervals = bootstrap_intervals(*population(400, seed), COSTS, resamples=1000, seed=seed)
        held["accuracy"] += intervals.accuracy[0] <= accuracy <= intervals.accuracy[1]
        held["cost"] += intervals.cost[0] <= cost <= intervals.cost[1]
    for name, times in held.items():
        # The percentile bootstrap is right in the limit; at 400 images it may be a percent off.
        noise = binomtest(times, repeats).proportion_ci(0.999)
        assert noise.low <= LEVEL + 0.01, name
        assert noise.high >= LEVEL - 0.01, name


def test_the_order_of_the_images_means_nothing():
    exits, correct = population(300, seed=0)
    shuffled = np.random.default_rng(0).permutation(300)
    assert bootstrap_intervals(exits, correct, COSTS) == bootstrap_intervals(exits[shuffled], correct[shuffled], COSTS)


def test_the_seed_decides_the_draws():
    exits, correct = population(300, seed=0)
    assert bootstrap_intervals(exits, correct, COSTS, seed=3) == bootstrap_intervals(exits, correct, COSTS, seed=3)
    assert bootstrap_intervals(exits, correct, COSTS, seed=3) != bootstrap_intervals(exits, correct, COSTS, seed=4)


def test_more_images_and_lower_levels_are_narrower():
    def widths(repeats: int, level: float) -> tuple[float, float]:
        exits, correct = population(200, seed=0)
        found = bootstrap_intervals(exits.repeat(repeats), correct.repeat(repeats), COSTS, level=level)
        return found.accuracy[1] - found.accuracy[0], found.cost[1] - found.cost[0]

    for few, many in zip(widths(1, 0.95), widths(16, 0.95), strict=True):
        assert few / many == pytest.approx(4.0, rel=0.15), "as the square root of the number of images"
    for wide, narrow in zip(widths(16, 0.95), widths(16, 0.5), strict=True):
        assert wide / narrow == pytest.approx(1.96 / 0.674, rel=0.15), "as quantiles of the normal distribution"


def test_without_labels_the_cost_alone_is_known():
    exits, correct = population(500, seed=0)
    found = bootstrap_intervals(exits, None, COSTS)
    assert found.accuracy is None
    assert found.cost == pytest.approx(bootstrap_intervals(exits, correct, COSTS).cost, rel=0.02)


@pytest.mark.parametrize("images", [1, 50])
def test_what_never_varies_has_no_width(images):
    found = bootstrap_intervals(np.full(images, 2), np.ones(images, dtype=bool), COSTS)
    assert found.accuracy == (1.0, 1.0)
    assert found.cost == (4.0, 4.0)


@pytest.mark.parametrize(("better", "worse"), [(0, 0), (30, 0), (40, 25), (3, 90)])
def test_a_paired_difference_is_that_of_resampled_pairs(better: int, worse: int) -> None:
    one = np.array([True] * better + [False] * worse + [True] * 300 + [False] * 100)
    other = np.array([False] * better + [True] * worse + [True] * 300 + [False] * 100)
    difference, (low, high) = accuracy_difference(one, other)
    assert difference == pytest.approx(one.mean() - other.mean())
    rng = np.random.default_rng(1)
    chosen = rng.integers(len(one), size=(4000, len(one)))
    expected = np.quantile(one[chosen].mean(axis=1) - other[chosen].mean(axis=1), [0.025, 0.975])
    np.testing.assert_allclose([low, high], expected, atol=0.006)
    assert low <= difference <= high
