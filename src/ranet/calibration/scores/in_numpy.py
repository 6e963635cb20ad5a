"""The scores that exit policies compare, in NumPy: for the logits of one exit the same as `score_logits`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ranet.errors import UserError

Floats = npt.NDArray[np.float32]
MOST_PATIENT = 31
# Keeps a confidence of 1 below the next integer, even in float32 after the longest run.
_BELOW_ONE = 1 - 2**-18


class Runs(NamedTuple):
    """The class that an exit predicts for each of n images, and how many exits in a row, up to it, predict it; (n,)."""

    labels: npt.NDArray[np.intp]
    lengths: npt.NDArray[np.int64]


def softmax(logits: Floats, temperature: float = 1.0) -> Floats:
    """Return the softmax of logits (n, C) divided by a temperature, in float32.

    Example:
        >>> softmax(np.float32([[0, 0], [1000, 0]])).tolist()
        [[0.5, 0.5], [1.0, 0.0]]
    """
    exponentials = np.exp(_below_largest(logits, temperature))
    exponentials /= np.add.reduce(exponentials, axis=1, keepdims=True)
    return exponentials


def exit_scores(
    logits: Floats, score: str, temperature: float = 1.0, before: Runs | None = None
) -> tuple[Floats, Runs | None]:
    """Return the scores of one exit for n images, (n,), and the runs up to this exit for patience, else None.

    Args:
        logits: (n, C) float32.
        score: "confidence", "margin", "entropy" or "patience" (`ranet.ExitPolicy`).
        temperature: temperature of the exit.
        before: runs up to the previous exit, for patience; None at the first exit.

    Example:
        >>> exit_scores(np.float32([[0, 0], [0, 9]]), "margin")[0].round(4).tolist()
        [0.0, 0.9998000264167786]
    """
    if score == "confidence":
        # The exponential of the largest class is 1, so its probability is one over the sum: this saves three calls.
        exponentials = np.exp(_below_largest(logits, temperature))
        return np.float32(1) / np.add.reduce(exponentials, axis=1), None
    if score == "entropy":
        shifted = _below_largest(logits, temperature)
        exponentials = np.exp(shifted)
        total = exponentials.sum(axis=1, keepdims=True)
        # A class with a logit of minus infinity adds 0.
        terms = np.multiply(shifted - np.log(total), exponentials / total, where=exponentials > 0, out=exponentials)
        return terms.sum(axis=1), None
    probabilities = softmax(logits, temperature)
    if score == "margin":
        if probabilities.shape[1] == 1:
            return probabilities[:, 0], None
        second, largest = np.partition(probabilities, -2, axis=1)[:, -2:].T
        return largest - second, None
    assert score == "patience", score
    labels = probabilities.argmax(axis=1)
    lengths = np.ones(len(labels), dtype=np.int64)
    if before is not None:
        lengths += np.where(labels == before.labels, before.lengths, 0)
    scores = lengths + probabilities.max(axis=1).astype(np.float64) * _BELOW_ONE
    return scores.astype(np.float32), Runs(labels, lengths)


def _below_largest(logits: Floats, temperature: float) -> Floats:
    """Return the logits divided by the temperature, minus the largest of each row."""
    if temperature != 1.0:
        logits = logits / np.float32(temperature)
    return logits - np.maximum.reduce(logits, axis=1, keepdims=True)


def patience_scores(prediction: npt.NDArray[np.int64], confidence: Floats) -> Floats:
    """Return (K, N) the number of exits in a row that agree plus a fraction that rises with the confidence.

    At an integer threshold t, an image leaves when t consecutive exits agree (Zhou et al., "BERT Loses Patience",
    NeurIPS 2020, where the patience is t - 1). Integers alone allow only K mean costs; the fraction allows those
    between: at a threshold of t + c, an image leaves if its run is longer than t, or if its run is t and its confidence
    is at least about c. Predictions and confidences, in [0, 1], are (K, N).

    Raises:
        UserError: if there are more than MOST_PATIENT exits: float32 then cannot hold the fraction.

    Example:
        >>> patience_scores(np.array([[3], [3], [5]]), np.float32([[0.5], [1.0], [0.25]]))[:, 0].round(3).tolist()
        [1.5, 3.0, 1.25]
    """
    if len(prediction) > MOST_PATIENT:
        raise UserError(f"Patience works for at most {MOST_PATIENT} exits, not {len(prediction)}.")
    runs = np.ones(prediction.shape, dtype=np.int64)
    for k in range(1, len(prediction)):
        runs[k] += np.where(prediction[k] == prediction[k - 1], runs[k - 1], 0)
    return (runs + confidence.clip(0, 1).astype(np.float64) * _BELOW_ONE).astype(np.float32)
