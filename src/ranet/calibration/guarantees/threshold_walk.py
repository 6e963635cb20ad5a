"""A walk of one common threshold from cautious to bold, down a grid (T,): the exit of every image at every step.

An image leaves at each exit during one interval of steps. So counts are sums over these intervals, and no image is
compared with every threshold.
"""

from __future__ import annotations

from math import inf

import numpy as np
import numpy.typing as npt
from scipy.special import expit

STEPS = 1500
LOWEST_LOG_ODDS, HIGHEST_LOG_ODDS = -10.0, 17.0  # beyond, float32 has few numbers below 1
LEAST_ENTROPY, MOST_CLASSES = 1e-7, 2**32
Counts = npt.NDArray[np.int64]


def threshold_grid(score: str, num_exits: int) -> npt.NDArray[np.float32]:
    """Return (T,) thresholds to test, about STEPS, from infinity (no image leaves) down to where all images leave.

    They depend only on the score's definition, not on images. Confidence and margin: evenly spaced in the log odds, so
    dense towards 1, where most confidences lie. Entropy: evenly spaced in its logarithm. Patience: between consecutive
    integers as for the confidence.

    Example:
        >>> [threshold_grid(score, 4)[[0, 1, -1]].tolist() for score in ("confidence", "patience")]
        [[inf, 1.0, 0.0], [inf, 5.0, 1.0]]
    """
    if score == "entropy":
        values = np.append(-np.geomspace(LEAST_ENTROPY, np.log(MOST_CLASSES), STEPS), 0.0)
    elif score == "patience":
        values = np.add.outer(np.arange(1, num_exits + 1), _from_0_to_1(STEPS // num_exits)).ravel()
    else:
        values = _from_0_to_1(STEPS)
    return np.append(np.unique(values.astype(np.float32)), np.float32(inf))[::-1]


def _from_0_to_1(steps: int) -> npt.NDArray[np.float64]:
    inner = expit(np.linspace(LOWEST_LOG_ODDS, HIGHEST_LOG_ODDS, steps))
    return np.concatenate([[0.0], inner, [1.0]])


def steps_of_exits(compared: npt.NDArray[np.float32], grid: npt.NDArray[np.float32]) -> Counts:
    """Return (K, N) the first step, 0..T, at which an image leaves at this exit or before; T is never, 0 the last exit.

    With a common threshold, an image has left by exit k if the largest of its first k scores reaches the threshold. So
    it leaves at exit k at the steps from `steps[k]` on and before `steps[k - 1]`: one interval for each exit.
    """
    steps = np.zeros(compared.shape, dtype=np.int64)
    steps[:-1] = np.searchsorted(-grid, -np.maximum.accumulate(compared[:-1], axis=0))
    return steps


def count_along(steps: Counts, marked: npt.NDArray[np.bool_], num_steps: int) -> Counts:
    """Return (T,) how many images leave at an exit where they are marked, (K, N), by their `steps_of_exits`."""
    begun = np.bincount(steps[marked], minlength=num_steps + 1)
    ended = np.bincount(_ends(steps, num_steps)[marked], minlength=num_steps + 1)
    return np.cumsum(begun - ended)[:num_steps]


def count_ever(steps: Counts, marked: npt.NDArray[np.bool_], num_steps: int) -> Counts:
    """Return (T,) how many images left at an exit where they are marked, at this step or before; see `count_along`."""
    leaves = steps < _ends(steps, num_steps)
    first = np.where(marked & leaves, steps, num_steps).min(axis=0)
    return np.cumsum(np.bincount(first, minlength=num_steps + 1))[:num_steps]


def _ends(steps: Counts, num_steps: int) -> Counts:
    """Return (K, N) the first step at which an image leaves before this exit."""
    return np.concatenate([np.full_like(steps[:1], num_steps), steps[:-1]])
