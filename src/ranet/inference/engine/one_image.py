"""The answer about a single image, as soon as possible."""

from __future__ import annotations

from math import exp
from typing import Any

import numpy as np

from ranet.calibration.scores.in_numpy import Floats, Runs, softmax
from ranet.inference.engine.answers import Answers
from ranet.inference.engine.leaving import leaving
from ranet.inference.engine.plan import Plan
from ranet.inference.runtimes.backend import Backend, State, executed_parts

# Behind a stage NumPy's code has left the caches: three of its calls then take as long as a fifth of a small stage, and
# a sum over as many classes as this a quarter of that.
_FEW_CLASSES = 100
# What float32 may do to a score, as long as the largest logit over the temperature is no larger.
_CLOSE = 1e-4
_LARGE = 100.0


def answer_one(plan: Plan, image: Any, backend: Backend, buffer: State) -> Answers:
    """Answer a single image as a batch of one is answered, without what only batches need.

    Args:
        plan: the steps.
        image: (1, 3, H, W), as `checked_images` gives it.
        backend: that runs the stages.
        buffer: from which the first stage starts on a batch of one.
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
    """Return whether an image's score reaches a threshold, where Python's numbers can tell; else None.

    They cannot where float32 might decide (`exit_scores`), nor for other scores than the confidence and the margin.

    Args:
        logits: (1, C).
        score: of the policy.
        temperature: of the exit.
        threshold: that is to be reached.

    Example:
        >>> reaches(np.float32([[0, 0]]), "confidence", 1.0, np.float32(0.4))
        True
        >>> reaches(np.float32([[0, 0]]), "confidence", 1.0, np.float32(0.5)) is None
        True
    """
    if logits.shape[1] > _FEW_CLASSES or score not in ("confidence", "margin"):
        return None
    row = _scaled(logits, temperature)
    largest = max(row)
    if not abs(largest) < _LARGE:
        return None
    exponentials = [exp(logit - largest) for logit in row]
    total = sum(exponentials)
    ahead = 1.0
    if score == "margin" and len(row) > 1:
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
    if logits.shape[1] > _FEW_CLASSES:
        return softmax(logits, temperature)
    row = _scaled(logits, temperature)
    largest = max(row)
    exponentials = [exp(logit - largest) for logit in row]
    if len(row) > 1 and sorted(exponentials)[-2] > 1 - _CLOSE:  # float32 may see a tie
        return softmax(logits, temperature)
    total = sum(exponentials)
    return np.array([[each / total for each in exponentials]], dtype=np.float32)


def _scaled(logits: Floats, temperature: float) -> list[float]:
    """Return the logits of one image over the temperature, divided in float32 as those of a batch."""
    if temperature != 1.0:
        logits = logits / np.float32(temperature)
    row: list[float] = logits[0].tolist()
    return row
