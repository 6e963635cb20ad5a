from math import comb, log

import numpy as np
import pytest
from scipy.stats import binomtest

from ranet.calibration.bounds import (
    binomial_p_value,
    clopper_pearson_lower,
    clopper_pearson_upper,
    hoeffding_bentkus_p_value,
    net_loss_p_value,
)

CASES = [(n, eps) for n in (1, 2, 7, 20, 100, 1000) for eps in (0.001, 0.01, 0.1, 0.5, 0.9)]
DELTAS = (0.001, 0.05, 0.1, 0.3, 0.7)


def binomial(n: int, rate: float) -> np.ndarray:
    """(n + 1,) the probability of each count, term by term."""
    return np.array([comb(n, k) * rate**k * (1 - rate) ** (n - k) for k in range(n + 1)])


@pytest.mark.parametrize(("n", "eps"), CASES)
def test_the_binomial_p_value_is_that_of_scipys_test(n, eps):
    counts = np.unique(np.linspace(0, n, 8).astype(int))
    expected = [binomtest(int(k), n, eps, alternative="less").pvalue for k in counts]
    np.testing.assert_allclose(binomial_p_value(counts, n, eps), expected, rtol=1e-9)


@pytest.mark.parametrize(("n", "eps"), [(1, 0.5), (7, 0.1), (20, 0.01)])
def test_the_binomial_p_value_is_the_sum_of_the_probabilities(n, eps):
    np.testing.assert_allclose(binomial_p_value(np.arange(n + 1), n, eps), np.cumsum(binomial(n, eps)), rtol=1e-12)


@pytest.mark.parametrize("p_value", [binomial_p_value, lambda k, n, eps: hoeffding_bentkus_p_value(k / n, n, eps)])
@pytest.mark.parametrize(("n", "eps"), CASES)
def test_p_values_are_seldom_small_where_the_hypothesis_holds(n, eps, p_value):
    """The risk is eps: summed over all outcomes, the probability of a p-value of at most delta is at most delta."""
    values = p_value(np.arange(n + 1), n, eps)
    for rate in {eps, min(1.0, 1.3 * eps)}:
        chances = binomial(n, rate) if n <= 100 else np.diff(binomial_p_value(np.arange(-1, n + 1), n, rate))
        for delta in DELTAS:
            assert chances[values <= delta].sum() <= delta * (1 + 1e-9)


def test_hoeffding_bentkus_is_valid_for_losses_between_0_and_1_too():
    """Losses of 0, 1/2 and 1, all outcomes of ten images, whose mean is eps or a little more."""
    n = 10
    whole, half = np.mgrid[: n + 1, : n + 1]
    zero = n - whole - half
    ways = np.array([[comb(n, w) * comb(n - w, h) if w + h <= n else 0 for h in range(n + 1)] for w in range(n + 1)])
    for p_whole, p_half in [(0.1, 0.1), (0.0, 0.3), (0.3, 0.2), (0.05, 0.6), (0.0, 1.0)]:
        chances = ways * p_whole**whole * p_half**half * (1 - p_whole - p_half) ** np.maximum(zero, 0)
        assert chances.sum() == pytest.approx(1)
        mean = p_whole + p_half / 2
        for eps in (mean, mean / 1.2):
            values = hoeffding_bentkus_p_value(np.minimum(whole + half / 2, n) / n, n, eps)
            for delta in DELTAS:
                assert chances[values <= delta].sum() <= delta


def test_hoeffding_bentkus_is_the_smaller_of_its_two_bounds():
    # From the definition, by hand: 3 errors of 50, eps = 0.2.
    hoeffding = np.exp(-50 * (0.06 * log(0.06 / 0.2) + 0.94 * log(0.94 / 0.8)))
    bentkus = np.e * binomial(50, 0.2)[:4].sum()
    assert bentkus < hoeffding
    assert hoeffding_bentkus_p_value(3 / 50, 50, 0.2) == pytest.approx(bentkus)
    # Where losses are not whole, the next integer counts, and Hoeffding's can be the smaller.
    hoeffding = np.exp(-10 * (0.41 * log(0.41 / 0.9) + 0.59 * log(0.59 / 0.1)))
    bentkus = np.e * binomial(10, 0.9)[:6].sum()
    assert hoeffding < bentkus
    assert hoeffding_bentkus_p_value(0.41, 10, 0.9) == pytest.approx(hoeffding)


def test_rounding_adds_no_error_to_a_whole_number_of_them():
    up = [(k, n) for n in range(1, 200) for k in range(n) if n * (k / n) > k]
    assert up, "there are such numbers"
    for k, n in up:
        assert hoeffding_bentkus_p_value(k / n, n, 0.5) <= np.e * binomial_p_value(k, n, 0.5)


@pytest.mark.parametrize("n", [1, 5, 60, 1000])
def test_clopper_pearson_is_scipys_exact_interval(n):
    for k in np.unique(np.linspace(0, n, 7).astype(int)):
        interval = binomtest(int(k), n).proportion_ci(confidence_level=0.9, method="exact")
        assert clopper_pearson_lower(k, n, 0.05) == pytest.approx(interval.low, abs=1e-12)
        assert clopper_pearson_upper(k, n, 0.05) == pytest.approx(interval.high, abs=1e-12)


@pytest.mark.parametrize(("n", "eps"), [(1, 0.9), (30, 0.2), (200, 0.05), (5000, 0.004)])
def test_the_net_p_value_is_the_smallest_delta_whose_bounds_reach_eps(n, eps):
    rng = np.random.default_rng(n)
    losses = rng.integers(0, max(1, int(2 * eps * n)) + 1, size=200)
    gains = np.minimum(rng.integers(0, max(1, int(eps * n)) + 1, size=200), n - losses)
    losses[:2], gains[:2] = [0, n], [n, 0]
    p_values = net_loss_p_value(losses, gains, n, eps)

    def passes(delta: np.ndarray) -> np.ndarray:
        return clopper_pearson_upper(losses, n, delta / 2) - clopper_pearson_lower(gains, n, delta / 2) <= eps

    certain = (p_values > 1e-13) & (p_values < 1)
    assert certain.sum() >= min(n, 50) / 10
    assert passes(np.minimum(p_values * (1 + 1e-6), 1 - 1e-9))[certain].all()
    assert not passes(p_values * (1 - 1e-6))[certain].any()
    assert not passes(np.full(200, 1 - 1e-9))[p_values == 1].any()


def test_the_net_p_value_is_seldom_small_where_the_hypothesis_holds():
    """All outcomes of 30 images with losses and gains whose difference is eps."""
    n = 30
    losses, gains = (values.ravel() for values in np.mgrid[: n + 1, : n + 1])
    possible = losses + gains <= n
    losses, gains = losses[possible], gains[possible]
    ways = np.array([comb(n, k) * comb(n - k, g) for k, g in zip(losses.tolist(), gains.tolist(), strict=True)])
    for eps in (0.1, 0.3):
        p_values = net_loss_p_value(losses, gains, n, eps)
        for p_gain in (0.0, 0.05, 0.3):
            p_loss = p_gain + eps
            chances = ways * p_loss**losses * p_gain**gains * (1 - p_loss - p_gain) ** (n - losses - gains)
            assert chances.sum() == pytest.approx(1)
            for delta in DELTAS:
                assert chances[p_values <= delta].sum() <= delta


def test_gains_help_and_losses_hurt():
    p_values = net_loss_p_value(np.arange(40)[:, None], np.arange(20), images=1000, eps=0.01)
    assert p_values.shape == (40, 20)
    assert (np.diff(p_values, axis=0) >= 0).all()
    assert (np.diff(p_values[:, 1:], axis=1) <= 0).all()
    # One union bound for both rates; without gains the rate of gains is known to be at least 0.
    np.testing.assert_allclose(p_values[:8, 0], 2 * binomial_p_value(np.arange(8), 1000, 0.01), rtol=1e-9)
