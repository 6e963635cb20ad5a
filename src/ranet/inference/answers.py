"""What the engine says about a batch of images."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ranet.errors import UserError
from ranet.inference.scoring import softmax


@dataclass(frozen=True, eq=False)
class Answers:
    """The answer about each of N images, in the order in which they came.

    Attributes:
        labels: (N,) the class that the image's exit predicts, 0..C-1.
        probabilities: (N, C) float32, the softmax at that exit, under the policy's temperature.
        exits: (N,) the exit at which the image left, 0..K-1.
        confidences: (N,) float32, the largest probability.
        costs: (N,) what the image cost, in ``unit``: the cost of its exit.
        logits: (N, C) float32, of that exit.
        unit: of the costs.
        error: in a stream, what is wrong with the batch that came; then N is 0. None where it was answered.
    """

    labels: npt.NDArray[np.int64]
    probabilities: npt.NDArray[np.float32]
    exits: npt.NDArray[np.int64]
    confidences: npt.NDArray[np.float32]
    costs: npt.NDArray[np.float64]
    logits: npt.NDArray[np.float32]
    unit: str
    error: UserError | None = None

    def __len__(self) -> int:
        """The number of images N."""
        return len(self.labels)

    def rows(self, chosen: npt.NDArray[Any]) -> Answers:
        """The answers about some of the images.

        Args:
            chosen: their indices, or (N,) bool.
        """
        names = ("labels", "probabilities", "exits", "confidences", "costs", "logits")
        return replace(self, **{name: getattr(self, name)[chosen] for name in names})


class AnswerSheet:
    """Room for the answers about N images, to be filled as they leave."""

    def __init__(self, size: int, num_classes: int) -> None:
        self.labels = np.zeros(size, dtype=np.int64)
        self.exits = np.zeros(size, dtype=np.int64)
        self.confidences = np.zeros(size, dtype=np.float32)
        self.probabilities = np.zeros((size, num_classes), dtype=np.float32)
        self.logits = np.zeros((size, num_classes), dtype=np.float32)

    def write(self, to: Any, exit: int, logits: npt.NDArray[np.float32], temperature: float) -> None:
        """Write what an exit says about some images.

        Args:
            to: n indices of the sheet, or a slice.
            exit: the exit's index.
            logits: (n, C).
            temperature: what they are divided by.
        """
        probabilities = softmax(logits, temperature)
        self.exits[to] = exit
        self.logits[to] = logits
        self.probabilities[to] = probabilities
        self.labels[to] = probabilities.argmax(axis=1)
        self.confidences[to] = np.maximum.reduce(probabilities, axis=1)

    def answers(self, cost_per_exit: npt.NDArray[np.float64], unit: str, rows: Any = None) -> Answers:
        """The answers in some rows of the sheet, copied; without rows, all of them as they are."""
        at = slice(None) if rows is None else rows
        exits = self.exits[at]
        return Answers(
            self.labels[at],
            self.probabilities[at],
            exits,
            self.confidences[at],
            cost_per_exit[exits],
            self.logits[at],
            unit,
        )
