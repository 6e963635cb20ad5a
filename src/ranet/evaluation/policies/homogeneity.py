"""Chi-square test of homogeneity for two binned samples, and the size of the difference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import chi2_contingency

FEWEST_EXPECTED = 5.0
PSI_SOME, PSI_LARGE = 0.1, 0.25


@dataclass(frozen=True)
class Homogeneity:
    """A chi-square test of homogeneity."""

    statistic: float  # the chi-square statistic
    degrees: int  # degrees of freedom; 0 if all images are in one bin, so that there is nothing to test
    p_value: float  # probability that chance alone gives at least this statistic; 1 if there is nothing to test


def homogeneity(
    calibration: npt.ArrayLike, seen: npt.ArrayLike, *, resamples: int = 9999, seed: int = 0
) -> Homogeneity:
    """Test whether two samples of images come from one distribution over bins.

    The statistic is chi-square of the 2 x B table (Pearson, 1900) without empty bins. If fewer than five images are
    expected in a cell (Cochran, "Some Methods for Strengthening the Common Chi-square Tests", Biometrics, 1954), the
    chi-square distribution does not apply. Then the p-value comes from random splits of both samples together, which is
    exact for any number of images up to the number of splits.

    The bins or thresholds may be quantiles of the calibration images, whose counts are then hardly random. The test of
    two samples is still right: the shares of later images in such bins vary as much as counts would (Wilks,
    "Determination of Sample Sizes for Setting Tolerance Limits", 1941).

    The arguments are the (B,) numbers of calibration images and of seen images in each bin, and number and seed of the
    random splits, if they are needed.

    Example:
        >>> homogeneity([10, 20, 30], [20, 20, 20])
        Homogeneity(statistic=5.333..., degrees=2, p_value=0.069...)
    """
    table = np.array([calibration, seen], dtype=np.int64)
    together = table.sum(axis=0)
    table, together = table[:, together > 0], together[together > 0]
    degrees = len(together) - 1
    if degrees < 1:
        return Homogeneity(0.0, 0, 1.0)
    result = chi2_contingency(table, correction=False)
    expected = result.expected_freq
    if expected.min() >= FEWEST_EXPECTED:
        return Homogeneity(float(result.statistic), degrees, float(result.pvalue))
    rng = np.random.default_rng(seed)
    drawn = rng.multivariate_hypergeometric(together, int(table[1].sum()), size=resamples, method="marginals")
    statistics = (drawn - expected[1]) ** 2 @ (1 / expected[0] + 1 / expected[1])
    as_large = np.count_nonzero(statistics >= result.statistic * (1 - 1e-9))
    return Homogeneity(float(result.statistic), degrees, float((1 + as_large) / (1 + resamples)))


def total_variation(calibration: npt.ArrayLike, seen: npt.ArrayLike) -> float:
    """Return the share of images that must change bins to make both distributions equal, 0 to 1.

    Example:
        >>> total_variation([10, 20, 30], [20, 20, 20])
        0.166...
    """
    p, q = (np.asarray(counts, dtype=np.float64) / np.sum(counts) for counts in (calibration, seen))
    return float(np.abs(p - q).sum() / 2)


def population_stability_index(calibration: npt.ArrayLike, seen: npt.ArrayLike) -> float:
    """Return the population stability index: sum over bins of (q - p) ln(q / p), p at calibration and q seen.

    By convention (Siddiqi, "Credit Risk Scorecards", 2006) the change is little below 0.1, some up to 0.25 and large
    above. Chance alone gives about (B - 1) (1/N + 1/M) for N and M images (Yurdakul and Naranjo, "Statistical
    Properties of the Population Stability Index", 2020), so use it only with a test. Half an image is added to each
    bin, or an empty bin would make the index infinite.

    Example:
        >>> population_stability_index([500, 500], [250, 750])  # (0.25 - 0.5) ln 0.5 + (0.75 - 0.5) ln 1.5
        0.274...
    """
    halves = [np.asarray(counts, dtype=np.float64) + 0.5 for counts in (calibration, seen)]
    p, q = (counts / counts.sum() for counts in halves)
    return float(((q - p) * np.log(q / p)).sum())


def superiority(calibration: npt.ArrayLike, seen: npt.ArrayLike) -> float:
    """Return the probability that a seen image is in a higher bin than a calibration image, ties counted half.

    This is the probability of superiority (Mann and Whitney, 1947) of the binned scores: 0.5 without drift, below 0.5
    if the network has become less sure.

    Example:
        >>> superiority([1, 1], [0, 2])
        0.75
    """
    p, q = (np.asarray(counts, dtype=np.float64) / np.sum(counts) for counts in (calibration, seen))
    return float((q * (np.cumsum(p) - p / 2)).sum())


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values corrected for multiple tests.

    If tests reject at a corrected value below alpha, any true hypothesis is rejected with probability at most alpha
    (Holm, "A Simple Sequentially Rejective Multiple Test Procedure", 1979).

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(values)
    corrected = np.empty_like(values)
    corrected[order] = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1)).clip(max=1)
    return corrected.tolist()
