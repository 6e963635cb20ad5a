"""P-values and confidence bounds for the risk on all images, from counts of errors on n images; valid for every n.

The only assumption is that the images are independent draws from the distribution of interest. ``errors``, ``losses``
and ``gains`` count images, and may be arrays whose shapes broadcast; ``images`` is n; a p-value is of the hypothesis
that the risk is above ``eps``, in (0, 1), and is at most delta with probability at most delta where that is true.
"""

from __future__ import annotations

from math import e

import numpy as np
import numpy.typing as npt
from scipy.special import betainc, betaincc, rel_entr
from scipy.stats import beta, binom

Floats = npt.NDArray[np.float64]

HALVINGS = 40
_ROUNDING = 1e-12  # relative error of a product that should be an integer


def binomial_p_value(errors: npt.ArrayLike, images: int, eps: float) -> Floats:
    """Return the p-value P(Bin(n, eps) <= errors) for an error rate.

    No valid p-value that rises with the number of errors is smaller.

    Example:
        >>> binomial_p_value([0, 1, 10], images=10, eps=0.5) * 1024
        array([1.000e+00, 1.100e+01, 1.024e+03])
    """
    return np.asarray(binom.cdf(errors, images, eps))


def hoeffding_bentkus_p_value(mean_loss: npt.ArrayLike, images: int, eps: float) -> Floats:
    """Return the p-value for the mean of losses in [0, 1].

    With h(a, b) = a log(a / b) + (1 - a) log((1 - a) / (1 - b)), it is the smaller of these two bounds:

        exp(-n h(min(mean, eps), eps))               Hoeffding, Journal of the ASA, 1963, theorem 1
        e P(Bin(n, eps) <= ceil(n mean))             Bentkus, Annals of Probability, 2004

    (Bates et al., "Distribution-Free, Risk-Controlling Prediction Sets", Journal of the ACM, 2021; Angelopoulos et al.,
    "Learn then Test", Annals of Applied Statistics, 2025). Both bound the probability that the mean of n losses is this
    small, and both rise with the mean. So the smaller one is a valid bound too, without a correction for choosing it.

    Example:
        >>> hoeffding_bentkus_p_value([0.0, 0.05, 0.1], images=100, eps=0.1).round(4)
        array([0.    , 0.1565, 1.    ])
    """
    mean = np.asarray(mean_loss, dtype=np.float64)
    low = np.minimum(mean, eps)
    hoeffding = np.exp(-images * (rel_entr(low, eps) + rel_entr(1 - low, 1 - eps)))
    # The sum of integer losses is an integer; rounding may have put it slightly above.
    bentkus = e * binom.cdf(np.ceil(images * mean * (1 - _ROUNDING)), images, eps)
    return np.minimum(np.minimum(hoeffding, bentkus), 1.0)


def clopper_pearson_upper(errors: npt.ArrayLike, images: int, delta: float) -> Floats:
    """Return the upper limit that the true rate of errors exceeds with probability at most delta, in (0, 1).

    It is the rate at which `binomial_p_value` is delta, and 1 if all images are errors (Clopper and Pearson,
    Biometrika, 1934).

    Example:
        >>> clopper_pearson_upper([0, 100], images=100, delta=0.1).round(4)  # 1 - 0.1 ** (1 / 100)
        array([0.0228, 1.    ])
    """
    k = np.asarray(errors, dtype=np.float64)
    # At k = n the beta distribution is not defined, and np.where does not use its value.
    return np.where(k < images, beta.isf(delta, k + 1, np.maximum(images - k, 1)), 1.0)


def clopper_pearson_lower(errors: npt.ArrayLike, images: int, delta: float) -> Floats:
    """Return the lower limit of the rate of errors; see `clopper_pearson_upper`.

    Example:
        >>> clopper_pearson_lower([0, 100], images=100, delta=0.1).round(4)  # 0.1 ** (1 / 100)
        array([0.    , 0.9772])
    """
    k = np.asarray(errors, dtype=np.float64)
    return np.where(k > 0, beta.ppf(delta, np.maximum(k, 1), images - k + 1), 0.0)


def net_loss_p_value(losses: npt.ArrayLike, gains: npt.ArrayLike, images: int, eps: float) -> Floats:
    """Return the p-value for P(loss) - P(gain), where no image has both.

    It is the smallest delta with

        clopper_pearson_upper(losses, n, delta / 2) - clopper_pearson_lower(gains, n, delta / 2) <= eps.

    Each bound fails with probability at most delta / 2, so the difference fails with probability at most delta. Good
    policies have few losses and gains. Bounds on the two rates are then much tighter than a bound on the mean of -1, 0
    and 1, such as Hoeffding's, which must allow for many of both.

    By the duality of bounds and p-values, it is the minimum over x, the rate of gains, of

        2 max(P(Bin(n, x + eps) <= losses), P(Bin(n, x) >= gains)).

    The first term falls with x and the second rises, so the minimum is where they cross. This is below gains / n, where
    the second term is at least 1/2. Without gains, x is 0 and so is the second term.

    Example:
        >>> net_loss_p_value([2, 2, 20], [0, 5, 5], images=1000, eps=0.01).round(4)
        array([0.0054, 0.0028, 1.    ])
    """
    lost, gained = np.broadcast_arrays(np.asarray(losses), np.asarray(gains))
    pairs, place = np.unique(np.stack([lost.ravel(), gained.ravel()]), axis=1, return_inverse=True)
    p_values = np.ones(pairs.shape[1])
    # If the observed difference is above eps, so is the difference of the bounds for every delta.
    within = pairs[0] - pairs[1] <= images * eps
    p_values[within] = _net_loss_p_values(pairs[0, within], pairs[1, within], images, eps)
    return p_values[place.reshape(lost.shape)]


def _net_loss_p_values(k: npt.NDArray[np.integer], g: npt.NDArray[np.integer], images: int, eps: float) -> Floats:
    """Return `net_loss_p_value` for k losses and g gains, (P,) each, with k - g <= n eps."""
    low, high = np.zeros(len(k)), np.minimum(g / images, 1 - eps)
    # Bisection of all pairs at once: SciPy's root finders take one equation at a time. The value at the end of the last
    # interval is at least the minimum, so the error is on the safe side. Both probabilities are incomplete beta
    # functions, which cost a tenth of the distribution's methods.
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        few_losses = betaincc(k + 1, np.maximum(images - k, 1), middle + eps)
        before = few_losses > betainc(np.maximum(g, 1), images - g + 1, middle)
        low, high = np.where(before, middle, low), np.where(before, high, middle)
    of_gains = np.where(g > 0, binom.sf(g - 1, images, high), 0.0)
    return np.minimum(2 * np.maximum(binom.cdf(k, images, high + eps), of_gains), 1.0)
