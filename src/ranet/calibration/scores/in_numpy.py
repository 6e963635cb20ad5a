"""What exit policies compare, from the logits of one exit, in NumPy: as `ranet.calibration.score_logits` has it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
# As in ranet.calibration: keeps a confidence of 1 below the next whole number.
_BELOW_ONE = 1 - 2**-18


class Runs(NamedTuple):
    """For patience: what an exit said about n images, and for how long exits have agreed about it.

    Attributes:
        labels: (n,) the class that the exit predicts.
        lengths: (n,) how many exits in a row, up to this one, predict it.
    """

    labels: npt.NDArray[np.intp]
    lengths: npt.NDArray[np.int64]


def softmax(logits: Floats, temperature: float = 1.0) -> Floats:
    """The softmax of logits (n, C) divided by a temperature, in float32.

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
    """How sure an exit is of n images, as a policy asks; more is surer.

    Args:
        logits: (n, C) float32.
        score: "confidence", "margin", "entropy" or "patience" (`ranet.ExitPolicy`).
        temperature: of the exit.
        before: for patience, the runs up to the exit before; None at the first exit.

    Returns:
        The scores (n,), and for patience the runs up to this exit.

    Example:
        >>> exit_scores(np.float32([[0, 0], [0, 9]]), "margin")[0].round(4).tolist()
        [0.0, 0.9998000264167786]
    """
    if score == "confidence":
        # One over the sum, since the largest class has the exponential 1: three calls less, at every exit of a batch.
        exponentials = np.exp(_below_largest(logits, temperature))
        return np.float32(1) / np.add.reduce(exponentials, axis=1), None
    if score == "entropy":
        shifted = _below_largest(logits, temperature)
        exponentials = np.exp(shifted)
        total = exponentials.sum(axis=1, keepdims=True)
        # A class that is excluded by a logit of minus infinity adds nothing.
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
    """The logits divided by the temperature, less the largest of each row."""
    if temperature != 1.0:
        logits = logits / np.float32(temperature)
    return logits - np.maximum.reduce(logits, axis=1, keepdims=True)
