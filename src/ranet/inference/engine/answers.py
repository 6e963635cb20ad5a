"""The answers of the engine to a batch of images."""

from __future__ import annotations

from copy import copy
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
    """The answer to each of N images, in the order in which they came.

    Attributes:
        labels: (N,) the class that the image's exit predicts, 0..C-1.
        probabilities: (N, C) float32, the softmax at that exit, under the policy's temperature.
        exits: (N,) the exit at which the image left, 0..K-1.
        confidences: (N,) float32, the largest probability.
        costs: (N,) the cost of the image's exit, and of the optional parts that it executed, in ``unit``.
        logits: (N, C) float32, of that exit.
        unit: of the costs.
        executed: (N, P) which optional parts of the network the image executed; P is 0 for most networks.
        error: in a stream, the reason why the batch could not be answered; then N is 0. Else None.
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
        """Return the answers to some of the images, by their indices or (N,) bool."""
        arrays = {name: value[chosen] for name, value in vars(self).items() if isinstance(value, np.ndarray)}
        return replace(self, **arrays)


class AnswerSheet:
    """Room for the answers to N images, to be filled as they leave: as in `Answers`, and -1 for no exit yet."""

    def __init__(self, size: int, facts: NetworkFacts) -> None:
        self.exits: npt.NDArray[np.int64] = np.full(size, -1, dtype=np.int64)
        self.logits: Floats = np.zeros((size, facts.num_classes), dtype=np.float32)
        self.executed: npt.NDArray[np.bool_] = np.zeros((size, len(facts.optional_parts)), dtype=np.bool_)

    def write(self, to: Any, exit: int, logits: Floats, executed: npt.NDArray[np.bool_]) -> None:
        """Write the answers of an exit to the images of n rows, by their indices or a slice."""
        self.exits[to] = exit
        self.logits[to] = logits
        self.executed[to] = executed

    def moved(self, first: int, size: int) -> AnswerSheet:
        """Return a sheet of another size that starts with the rows from ``first`` on."""
        new = copy(self)
        for name, old in vars(self).items():
            rows = np.full((size, *old.shape[1:]), -1 if name == "exits" else 0, dtype=old.dtype)
            rows[: len(old) - first] = old[first:]
            setattr(new, name, rows)
        return new

    def answers(self, plan: Plan, rows: Any = slice(None)) -> Answers:
        """Return the answers in some rows of the sheet, by the plan that found them; all have been written."""
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
