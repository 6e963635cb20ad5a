"""What counts of errors on n images say about the risk on all images: p-values and bounds that hold for every n.

All assume that the images are independent draws from the distribution that the promise is about, and nothing else. The
functions are elementwise: counts may be arrays, of one shape or shapes that broadcast.
"""

from __future__ import annotations

from math import e

import numpy as np
import numpy.typing as npt
from scipy.special import betainc, betaincc, rel_entr
from scipy.stats import beta, binom

Floats = npt.NDArray[np.float64]

HALVINGS = 40
_ROUNDING = 1e-12  # relative; of a product that should be a whole number


def binomial_p_value(errors: npt.ArrayLike, images: int, eps: float) -> Floats:
    """P(Bin(n, eps) <= errors): how probable so few errors would be if the error rate were eps, or more.

    The p-value of the hypothesis that the rate of errors, each 0 or 1, is above eps: under it, this is at most delta
    with a probability of at most delta, for every n and delta. No other p-value that rises with the errors is smaller.

    Args:
        errors: how many of the n images have one.
        images: n.
        eps: the rate that would be too much, in (0, 1).

    Example:
        >>> binomial_p_value([0, 1, 10], images=10, eps=0.5) * 1024
        array([1.000e+00, 1.100e+01, 1.024e+03])
    """
    return np.asarray(binom.cdf(errors, images, eps))


def hoeffding_bentkus_p_value(mean_loss: npt.ArrayLike, images: int, eps: float) -> Floats:
    """The p-value of the hypothesis that the mean of losses in [0, 1] is above eps.

    With h(a, b) = a log(a / b) + (1 - a) log((1 - a) / (1 - b)), it is the smaller of

        exp(-n h(min(mean, eps), eps))               Hoeffding, Journal of the ASA, 1963, theorem 1
        e P(Bin(n, eps) <= ceil(n mean))             Bentkus, Annals of Probability, 2004

    (Bates et al., "Distribution-Free, Risk-Controlling Prediction Sets", Journal of the ACM, 2021; Angelopoulos et al.,
    "Learn then Test", Annals of Applied Statistics, 2025). Both bound the probability that the mean of n losses is this
    small, and both rise with it: so the smaller of the two is a bound as well, and needs no correction for having been
    chosen.

    Args:
        mean_loss: of the n images.
        images: n.
        eps: the mean that would be too much, in (0, 1).

    Example:
        >>> hoeffding_bentkus_p_value([0.0, 0.05, 0.1], images=100, eps=0.1).round(4)
        array([0.    , 0.1565, 1.    ])
    """
    mean = np.asarray(mean_loss, dtype=np.float64)
    low = np.minimum(mean, eps)
    hoeffding = np.exp(-images * (rel_entr(low, eps) + rel_entr(1 - low, 1 - eps)))
    # A sum of whole losses that rounding has put just above a whole number is that number.
    bentkus = e * binom.cdf(np.ceil(images * mean * (1 - _ROUNDING)), images, eps)
    return np.minimum(np.minimum(hoeffding, bentkus), 1.0)


def clopper_pearson_upper(errors: npt.ArrayLike, images: int, delta: float) -> Floats:
    """The error rate that is exceeded with a probability of at most delta (Clopper and Pearson, Biometrika, 1934).

    It is the rate at which `binomial_p_value` is delta, and 1 if all images are errors.

    Args:
        errors: how many of the n images have one.
        images: n.
        delta: in (0, 1).

    Example:
        >>> clopper_pearson_upper([0, 100], images=100, delta=0.1).round(4)  # 1 - 0.1 ** (1 / 100)
        array([0.0228, 1.    ])
    """
    k = np.asarray(errors, dtype=np.float64)
    # At k = n the beta distribution has no second parameter, and the value does not depend on it.
    return np.where(k < images, beta.isf(delta, k + 1, np.maximum(images - k, 1)), 1.0)


def clopper_pearson_lower(errors: npt.ArrayLike, images: int, delta: float) -> Floats:
    """The error rate that is fallen short of with a probability of at most delta; see `clopper_pearson_upper`.

    Example:
        >>> clopper_pearson_lower([0, 100], images=100, delta=0.1).round(4)  # 0.1 ** (1 / 100)
        array([0.    , 0.9772])
    """
    k = np.asarray(errors, dtype=np.float64)
    return np.where(k > 0, beta.ppf(delta, np.maximum(k, 1), images - k + 1), 0.0)


def net_loss_p_value(losses: npt.ArrayLike, gains: npt.ArrayLike, images: int, eps: float) -> Floats:
    """The p-value of the hypothesis that P(loss) - P(gain) is above eps, where no image has both.

    It is the smallest delta with

        clopper_pearson_upper(losses, n, delta / 2) - clopper_pearson_lower(gains, n, delta / 2) <= eps.

    Each bound is wrong with a probability of at most delta / 2, so the difference is wrong with at most delta. Losses
    and gains are rare for policies worth having, and then bounds of the two rates are much tighter than a bound such as
    Hoeffding's of the mean of -1, 0 and 1, which must allow for many of both.

    By the duality of bounds and p-values, it is the minimum over a rate x of gains of

        2 max(P(Bin(n, x + eps) <= losses), P(Bin(n, x) >= gains)),

    where the first falls with x and the second rises: the minimum is where they cross. This is below gains / n, where
    the second is at least 1/2; and where there are no gains, x is 0, and the second nothing.

    Args:
        losses: how many of the n images have one.
        gains: how many have one.
        images: n.
        eps: the difference that would be too much, in (0, 1).

    Example:
        >>> net_loss_p_value([2, 2, 20], [0, 5, 5], images=1000, eps=0.01).round(4)
        array([0.0054, 0.0028, 1.    ])
    """
    lost, gained = np.broadcast_arrays(np.asarray(losses), np.asarray(gains))
    pairs, place = np.unique(np.stack([lost.ravel(), gained.ravel()]), axis=1, return_inverse=True)
    p_values = np.ones(pairs.shape[1])
    # Where the difference that is seen is above eps, the difference of the bounds always is.
    within = pairs[0] - pairs[1] <= images * eps
    p_values[within] = _net_loss_p_values(pairs[0, within], pairs[1, within], images, eps)
    return p_values[place.reshape(lost.shape)]


def _net_loss_p_values(k: npt.NDArray[np.integer], g: npt.NDArray[np.integer], images: int, eps: float) -> Floats:
    """For k losses and g gains, (P,) each, that are within eps."""
    low, high = np.zeros(len(k)), np.minimum(g / images, 1 - eps)
    # All pairs at once, by halving: SciPy's root finders take one equation at a time. Whatever is left of the interval,
    # the value at its end is no smaller than the minimum: the error is on the safe side. Both probabilities are
    # incomplete beta functions, which cost a tenth of the distribution's methods.
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        few_losses = betaincc(k + 1, np.maximum(images - k, 1), middle + eps)
        before = few_losses > betainc(np.maximum(g, 1), images - g + 1, middle)
        low, high = np.where(before, middle, low), np.where(before, high, middle)
    of_gains = np.where(g > 0, binom.sf(g - 1, images, high), 0.0)
    return np.minimum(2 * np.maximum(binom.cdf(k, images, high + eps), of_gains), 1.0)
