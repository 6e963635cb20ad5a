"""The answer to a single image, as soon as possible."""

from __future__ import annotations

from math import exp
from typing import Any

import numpy as np

from ranet.calibration.scores.in_numpy import Floats, Runs, softmax
from ranet.inference.engine.answers import Answers
from ranet.inference.engine.plan import Plan, leaving
from ranet.inference.runtimes.backend import Backend, State, executed_parts

# Behind a stage NumPy's code has left the caches: three of its calls then take as long as a fifth of a small stage, and
# a sum over as many classes as this a quarter of that.
_FEW_CLASSES = 100
# What float32 may do to a score, as long as the largest logit over the temperature is no larger.
_CLOSE = 1e-4
_LARGE = 100.0


def answer_one(plan: Plan, image: Any, backend: Backend, buffer: State) -> Answers:
    """Answer a single image (1, C, H, W), from the buffer of the first stage for a batch of one.

    The answer is that of a batch of one, without the steps that only batches need.
    """
    backend.copy_rows((image,), None, buffer, 0)
    state, score, last = buffer, plan.policy.score, plan.steps[-1]
    runs: Runs | None = None
    for step in plan.steps:
        logits, state = backend.run(step.stage, state, 1)
        if step is last:
            break
        if step.looks:
            leaves = reaches(logits, score, step.temperature, step.threshold)
            if leaves is None:
                out, _, runs = leaving(step, score, logits, runs)
                leaves = len(out) == 1
            if leaves:
                break
    exit, executed = step.stage.last, executed_parts(backend.facts, state, 1)
    probabilities = softmax_of_one(logits, step.temperature)
    of_classes = probabilities[0].tolist()
    confidence = max(of_classes)
    return Answers(
        labels=np.array([of_classes.index(confidence)]),
        probabilities=probabilities,
        exits=np.array([exit]),
        confidences=np.array([confidence], dtype=np.float32),
        costs=plan.cost_per_exit[exit] + executed @ plan.part_costs,
        logits=logits.copy(),
        unit=plan.unit,
        executed=executed,
    )


def reaches(logits: Floats, score: str, temperature: float, threshold: np.float32) -> bool | None:
    """Return whether the score of an image with logits (1, C) reaches a threshold; None where NumPy is to decide.

    That is where the rounding of float32 might decide (`exit_scores`), and for other scores than confidence and margin.

    Example:
        >>> reaches(np.float32([[0, 0]]), "confidence", 1.0, np.float32(0.4))
        True
        >>> reaches(np.float32([[0, 0]]), "confidence", 1.0, np.float32(0.5)) is None
        True
    """
    exponentials = _exponentials(logits, temperature) if score in ("confidence", "margin") else None
    if exponentials is None:
        return None
    total = sum(exponentials)
    ahead = 1.0
    if score == "margin" and len(exponentials) > 1:
        exponentials.sort()
        ahead -= exponentials[-2]
    over = ahead / total - float(threshold)
    return over > 0 if abs(over) > _CLOSE else None  # None for NaN, too


def softmax_of_one(logits: Floats, temperature: float) -> Floats:
    """Return the softmax (1, C) of the logits of one image. Its rounding differs from `softmax`, but never the label.

    Example:
        >>> softmax_of_one(np.float32([[0, 0]]), 1.0).tolist()
        [[0.5, 0.5]]
    """
    exponentials = _exponentials(logits, temperature)
    if exponentials is None or (len(exponentials) > 1 and sorted(exponentials)[-2] > 1 - _CLOSE):
        return softmax(logits, temperature)  # float32 may see a tie
    total = sum(exponentials)
    return np.array([[each / total for each in exponentials]], dtype=np.float32)


def _exponentials(logits: Floats, temperature: float) -> list[float] | None:
    """Return the exponentials of one image's logits over the temperature, 1 for the largest, in Python's numbers.

    None where NumPy is faster, and where float32 is too coarse for them.
    """
    if logits.shape[1] > _FEW_CLASSES:
        return None
    if temperature != 1.0:
        logits = logits / np.float32(temperature)  # as those of a batch
    row: list[float] = logits[0].tolist()
    largest = max(row)
    return [exp(logit - largest) for logit in row] if abs(largest) < _LARGE else None
