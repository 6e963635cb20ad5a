"""What the engine says about a batch of images."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ranet.calibration.scores.in_numpy import Floats, softmax
from ranet.errors import UserError
from ranet.inference.engine.plan import Plan
from ranet.inference.runtimes.backend import NetworkFacts


@dataclass(frozen=True, eq=False)
class Answers:
    """The answer about each of N images, in the order in which they came.

    Attributes:
        labels: (N,) the class that the image's exit predicts, 0..C-1.
        probabilities: (N, C) float32, the softmax at that exit, under the policy's temperature.
        exits: (N,) the exit at which the image left, 0..K-1.
        confidences: (N,) float32, the largest probability.
        costs: (N,) what the image cost, in ``unit``: the cost of its exit, and of the optional parts that it executed.
        logits: (N, C) float32, of that exit.
        unit: of the costs.
        executed: (N, P) which optional parts of the network the image executed; P is 0 for most networks.
        error: in a stream, what is wrong with the batch that came; then N is 0. None where it was answered.
    """

    labels: npt.NDArray[np.int64]
    probabilities: npt.NDArray[np.float32]
    exits: npt.NDArray[np.int64]
    confidences: npt.NDArray[np.float32]
    costs: npt.NDArray[np.float64]
    logits: npt.NDArray[np.float32]
    unit: str
    executed: npt.NDArray[np.bool_]
    error: UserError | None = None

    def __len__(self) -> int:
        """The number of images N."""
        return len(self.labels)

    def rows(self, chosen: npt.NDArray[Any]) -> Answers:
        """The answers about some of the images.

        Args:
            chosen: their indices, or (N,) bool.
        """
        arrays = {name: value[chosen] for name, value in vars(self).items() if isinstance(value, np.ndarray)}
        return replace(self, **arrays)


class AnswerSheet:
    """Room for what exits say about N images, to be filled as they leave.

    Attributes:
        exits: (N,) the exit that has answered, -1 for none yet.
        logits: (N, C) of that exit.
        executed: (N, P) the optional parts that the image executed.
    """

    def __init__(self, size: int, facts: NetworkFacts) -> None:
        self.exits: npt.NDArray[np.int64] = np.full(size, -1, dtype=np.int64)
        self.logits: Floats = np.zeros((size, facts.num_classes), dtype=np.float32)
        self.executed: npt.NDArray[np.bool_] = np.zeros((size, len(facts.optional_parts)), dtype=np.bool_)

    def write(self, to: Any, exit: int, logits: Floats, executed: npt.NDArray[np.bool_]) -> None:
        """Write what an exit says about some images.

        Args:
            to: n indices of the sheet, or a slice.
            exit: the exit's index.
            logits: (n, C).
            executed: (n, P).
        """
        self.exits[to] = exit
        self.logits[to] = logits
        self.executed[to] = executed

    def answers(self, plan: Plan, rows: Any = slice(None)) -> Answers:
        """The answers in some rows of the sheet, copied; all of them have been written.

        Args:
            plan: by which they were found.
            rows: indices, or a slice.
        """
        exits, logits, executed = (each[rows].copy() for each in (self.exits, self.logits, self.executed))
        scaled = logits if plan.temperatures is None else logits / plan.temperatures[exits, None]
        probabilities = softmax(scaled)
        return Answers(
            labels=probabilities.argmax(axis=1),
            probabilities=probabilities,
            exits=exits,
            confidences=np.maximum.reduce(probabilities, axis=1),
            costs=plan.cost_per_exit[exits] + executed @ plan.part_costs,
            logits=logits,
            unit=plan.unit,
            executed=executed,
        )
