"""Intervals against exact distributions, and against the truth in simulated crowds of every size."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import binom, binomtest, norm

from ranet.calibration import ExitScores
from ranet.calibration.policies.intervals import (
    LEVEL,
    Interval,
    accuracy_difference,
    accuracy_interval,
    few_images,
    mean_interval,
    outcome_intervals,
)
from ranet.cost.table import ImageCosts
from ranet.evaluation.policies.differences import mean_difference

COSTS = np.array([1.0, 2.5, 4.0, 9.0])
SHARES = np.array([0.4, 0.3, 0.2, 0.1])
RIGHT = np.array([0.95, 0.9, 0.7, 0.5])
ALL = np.ones(4, dtype=bool)
SIZES, PROBABILITIES = (10, 30, 100, 1000), (0.5, 0.9, 0.98)


def population(images: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Where images leave and whether they are right there, drawn from the shares and accuracies above."""
    rng = np.random.default_rng(seed)
    exits = rng.choice(4, size=images, p=SHARES)
    return exits, rng.random(images) < RIGHT[exits]


@pytest.mark.parametrize("images", SIZES)
def test_accuracies_are_covered_at_least_as_often_as_promised(images: int) -> None:
    """Exactly: over all numbers that can be right, weighted by how probable they are."""
    intervals = np.array([accuracy_interval(right, images) for right in range(images + 1)])
    for p in PROBABILITIES:
        holds = (intervals[:, 0] <= p) & (p <= intervals[:, 1])
        assert binom.pmf(np.arange(images + 1)[holds], images, p).sum() >= LEVEL


@pytest.mark.parametrize(("right", "images"), [(0, 4), (4, 4), (29, 30), (450, 1000)])
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_accuracies_have_the_exact_interval(right: int, images: int, level: float) -> None:
    expected = binomtest(right, images).proportion_ci(level, method="exact")
    assert accuracy_interval(right, images, level=level) == pytest.approx((expected.low, expected.high))


def costs_of_two(images: int, p: float, rng: np.random.Generator) -> tuple[float, Interval]:
    shares, costs = np.array([p, (1 - p) / 2, (1 - p) / 2]), np.array([1.0, 2.0, 4.0])
    return shares @ costs, mean_interval(rng.multinomial(images, shares), costs, draws=1000)


def costs_of_seven(images: int, p: float, rng: np.random.Generator) -> tuple[float, Interval]:
    shares, costs = np.array([*[(1 - p) / 6] * 6, p]), np.arange(1.0, 8.0)
    return shares @ costs, mean_interval(rng.multinomial(images, shares), costs, draws=1000)


def paired_accuracies(images: int, p: float, rng: np.random.Generator) -> tuple[float, Interval]:
    """Both right or wrong with p; the first alone right more often than the second alone."""
    drawn = rng.choice(3, size=images, p=[p, 0.7 * (1 - p), 0.3 * (1 - p)])
    return 0.4 * (1 - p), accuracy_difference(drawn != 2, drawn != 1)[1]


def accuracies_of_others(images: int, p: float, rng: np.random.Generator) -> tuple[float, Interval]:
    """Promised with p, seen with 10 % less on a third as many images."""
    few = max(images // 3, 1)
    then, now = rng.binomial(images, p), rng.binomial(few, 0.9 * p)
    change = mean_difference([images - then, then], [few - now, now], [0.0, 1.0], resamples=1)
    return -0.1 * p, change.interval


def costs_of_others(images: int, p: float, rng: np.random.Generator) -> tuple[float, Interval]:
    costs, before, after = np.array([1.0, 2.0, 4.0]), [p, (1 - p) / 2, (1 - p) / 2], [0.9 * p, 0.0, 1 - 0.9 * p]
    then, now = rng.multinomial(images, before), rng.multinomial(images, after)
    return (np.array(after) - before) @ costs, mean_difference(then, now, costs, resamples=1).interval


@pytest.mark.parametrize(
    ("crowd", "low", "high"),
    [
        (costs_of_two, 1, 4),
        (costs_of_seven, 1, 7),
        (paired_accuracies, -1, 1),
        (accuracies_of_others, -1, 1),
        (costs_of_others, -3, 3),
    ],
)
@pytest.mark.parametrize("images", SIZES)
def test_the_truth_is_covered_in_crowds_of_every_size(
    crowd: Callable[[int, float, np.random.Generator], tuple[float, Interval]], low: float, high: float, images: int
) -> None:
    """A bootstrap covers 46 % for 30 images and p = 0.98. All ends are possible, and none says that it is certain."""
    rounds, shares = 150, []
    for p in PROBABILITIES:
        rng, held = np.random.default_rng([images, round(100 * p)]), 0
        for _ in range(rounds):
            truth, (lower, upper) = crowd(images, p, rng)
            assert low <= lower < upper <= high
            held += lower <= truth <= upper
        shares.append(held / rounds)
    # Of 150 rounds with 95 %, fewer than 90 % would hold the truth in one of 150 cases.
    assert min(shares) >= 0.9
    assert np.mean(shares) >= 0.93


def test_large_crowds_have_the_interval_of_the_normal_distribution() -> None:
    """So no interval is wider than it must be where it need not be."""
    exits, correct = population(20_000, seed=0)
    found = outcome_intervals(exits, correct, ImageCosts(COSTS), ALL)
    for interval, values in ((found.accuracy, correct), (found.cost, COSTS[exits])):
        half = norm.ppf(0.975) * values.std() / np.sqrt(len(values))
        assert interval == pytest.approx((values.mean() - half, values.mean() + half), abs=0.07 * half)
    one, other = correct, np.random.default_rng(1).permutation(correct)
    difference, interval = accuracy_difference(one, other)
    assert difference == pytest.approx(one.mean() - other.mean())
    half = norm.ppf(0.975) * (one.astype(int) - other).std() / np.sqrt(len(one))
    assert interval == pytest.approx((difference - half, difference + half), abs=0.07 * half)


def test_three_values_of_which_one_is_never_seen_hold_the_interval_of_two() -> None:
    """A value that no image has changes nothing: the draws agree with the exact interval."""
    drawn = mean_interval([7, 0, 23], [0.0, 0.5, 1.0], draws=200_000)
    assert drawn == pytest.approx(accuracy_interval(23, 30), abs=0.002)


def test_the_order_of_the_images_means_nothing() -> None:
    exits, correct = population(300, seed=0)
    shuffled = np.random.default_rng(0).permutation(300)
    found = outcome_intervals(exits, correct, ImageCosts(COSTS), ALL)
    assert found == outcome_intervals(exits[shuffled], correct[shuffled], ImageCosts(COSTS), ALL)


def test_the_seed_decides_the_draws() -> None:
    counts = [20, 30, 50]
    assert mean_interval(counts, [1, 2, 4], seed=3) == mean_interval(counts, [1, 2, 4], seed=3)
    assert mean_interval(counts, [1, 2, 4], seed=3) != mean_interval(counts, [1, 2, 4], seed=4)


def test_without_labels_the_cost_alone_is_known() -> None:
    exits, correct = population(500, seed=0)
    found = outcome_intervals(exits, None, ImageCosts(COSTS), ALL)
    assert found.accuracy is None
    assert found.cost == outcome_intervals(exits, correct, ImageCosts(COSTS), ALL).cost


@pytest.mark.parametrize("images", [1, 4, 50])
def test_a_few_images_that_are_all_alike_are_not_certain(images: int) -> None:
    exits, correct = np.full(images, 2), np.ones(images, dtype=bool)
    found = outcome_intervals(exits, correct, ImageCosts(COSTS), ALL)
    # If all n are right with p, that had a probability of p^n: 2.5 % at the lower end.
    assert found.accuracy == pytest.approx((0.025 ** (1 / images), 1.0))
    assert 1.0 <= found.cost[0] < 4.0 < found.cost[1] <= 9.0
    difference, (low, high) = accuracy_difference(correct, correct)
    assert difference == 0
    assert -1 <= low < 0 < high <= 1
    # Where images can leave at one exit alone, the cost is certain, and the accuracy is not.
    certain = outcome_intervals(exits, correct, ImageCosts(COSTS), np.arange(4) == 2)
    assert (certain.cost, certain.accuracy) == ((4.0, 4.0), found.accuracy)


@pytest.mark.parametrize(
    ("images", "labels", "classes", "sentence"),
    [
        (99, None, None, "There are only 99 validation images: intervals are wide, and what looks better may be so by"),
        (1, None, None, "There is only 1 validation image: intervals"),
        (99, [0, 1, 2], None, "There are only 99 validation images, and none of 1 of 4 classes (3): intervals"),
        (100, None, None, None),
        (100, [0, 1, 2, 3], None, None),
        (
            120,
            [0, 2, 3],
            ["ape", "bat", "cat", "dog"],
            "Among the 120 validation images there is none of 1 of 4 classes (bat): that class is untried.",
        ),
        (1200, [0, 3], list("abcdefg"), "1,200 validation images there is none of 5 of 7 classes (b, c, e, ...): "),
    ],
)
def test_few_images_and_classes_without_images_are_said(
    images: int, labels: list[int] | None, classes: list[str] | None, sentence: str | None
) -> None:
    predicted = np.arange(images) % 4  # a class that is predicted exists
    known = None if labels is None else np.resize(labels, images)
    scores = ExitScores(np.full((1, images), 0.5), None if labels is None else predicted[None], labels=known)
    said = few_images(scores, "validation", classes)
    assert said == sentence if sentence is None else sentence in str(said)
