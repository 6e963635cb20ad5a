"""What exit policies compare, from the logits of one exit, in NumPy: as `ranet.calibration.score_logits` has it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
# As in ranet.calibration: keeps a confidence of 1 below the next whole number.
_BELOW_ONE = 1 - 2**-18


class Scored(NamedTuple):
    """What one exit says about n images.

    Attributes:
        probabilities: (n, C) softmax of the logits divided by the temperature.
        labels: (n,) the class of the largest probability.
        confidences: (n,) the largest probability.
        scores: (n,) what the policy compares, more is surer.
        runs: (n,) for patience, how many exits in a row, up to this one, have given this label.
    """

    probabilities: Floats
    labels: npt.NDArray[np.intp]
    confidences: Floats
    scores: Floats
    runs: npt.NDArray[np.int64] | None = None


def softmax(logits: Floats, temperature: float = 1.0) -> Floats:
    """The softmax of logits (n, C) divided by a temperature, in float32.

    Example:
        >>> softmax(np.float32([[0, 0], [1000, 0]])).tolist()
        [[0.5, 0.5], [1.0, 0.0]]
    """
    if temperature != 1.0:
        logits = logits / np.float32(temperature)
    exponentials: Floats = np.exp(logits - logits.max(axis=-1, keepdims=True))
    exponentials /= exponentials.sum(axis=-1, keepdims=True)
    return exponentials


def score_logits(
    logits: Floats,
    score: str,
    temperature: float = 1.0,
    before: tuple[npt.NDArray[np.intp], npt.NDArray[np.int64]] | None = None,
) -> Scored:
    """Score the logits of one exit as a policy does.

    Args:
        logits: (n, C) float32.
        score: "confidence", "margin", "entropy" or "patience" (`ranet.ExitPolicy`).
        temperature: of the exit.
        before: for patience, the labels (n,) and runs (n,) of the exit before; None at the first exit.

    Example:
        >>> scored = score_logits(np.float32([[0, 0], [0, 9]]), "margin")
        >>> scored.labels.tolist(), scored.scores.round(4).tolist()
        ([0, 1], [0.0, 0.9998000264167786])
    """
    probabilities = softmax(logits, temperature)
    labels = probabilities.argmax(axis=-1)
    confidences: Floats = probabilities.max(axis=-1)
    if score == "confidence":
        return Scored(probabilities, labels, confidences, confidences)
    if score == "margin":
        if probabilities.shape[-1] == 1:
            return Scored(probabilities, labels, confidences, confidences)
        second = np.partition(probabilities, -2, axis=-1)[:, -2]
        return Scored(probabilities, labels, confidences, confidences - second)
    if score == "entropy":
        # From the logits: next to a probability of 1 its logarithm has lost its digits.
        scaled = logits / np.float32(temperature)
        shifted = scaled - scaled.max(axis=-1, keepdims=True)
        logarithms = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
        # A class that is excluded by a logit of minus infinity adds nothing.
        terms = np.multiply(probabilities, logarithms, where=probabilities > 0, out=np.zeros_like(probabilities))
        return Scored(probabilities, labels, confidences, terms.sum(axis=-1))
    assert score == "patience", score
    runs = np.ones(len(labels), dtype=np.int64)
    if before is not None:
        runs += np.where(labels == before[0], before[1], 0)
    scores = (runs + confidences.astype(np.float64) * _BELOW_ONE).astype(np.float32)
    return Scored(probabilities, labels, confidences, scores, runs)
