"""Answers within a deadline: every image gets that of the first exit, and better ones while there is time."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt

from ranet.calibration.scores.in_numpy import Runs
from ranet.cost.timings import MILLISECONDS
from ranet.inference.engine.answers import Answers, AnswerSheet
from ranet.inference.engine.plan import Plan, leaving
from ranet.inference.runtimes.backend import LARGEST_BATCH, Backend, State, executed_parts, largest_size, sized
from ranet.inference.runtimes.stage_times import StageTimes
from ranet.inference.stages.fused_stages import FusedStage


def answer_within(
    deadline: float,
    plan: Plan,
    images: Any,
    backend: Backend,
    times: StageTimes,
    buffer_of: Callable[[FusedStage, int], State],
) -> Answers:
    """Answer images exit by exit, all of them at one before any goes on to the next, until a deadline in milliseconds.

    A stage runs if the 95th percentile of its time still fits. ``buffer_of`` gives the buffer of a stage and a size.
    """
    count = len(images)
    end = perf_counter() + deadline / MILLISECONDS
    sheet = AnswerSheet(count, backend.facts)
    size = largest_size(backend.fixed_sizes, LARGEST_BATCH)
    parts: list[tuple[State, npt.NDArray[np.intp], Runs | None]] = []
    for first in range(0, count, size):
        places = np.arange(first, min(first + size, count))
        parts.append(((images[first : first + size],), places, None))
    answered = False
    for number, step in enumerate(plan.steps):
        going = []
        for given, places, before in parts:
            expected = times.cautious(step.stage, sized(backend, len(places))) / MILLISECONDS
            if answered and perf_counter() + expected > end:
                continue  # these keep the answers that they have
            state = buffer_of(step.stage, sized(backend, len(places)))
            backend.copy_rows(given, None, state, 0)
            logits, after = backend.run(step.stage, state, len(places))
            rows: npt.NDArray[np.intp] = np.arange(len(places))
            if step.looks:
                sheet.write(places, step.stage.last, logits, executed_parts(backend.facts, after, len(places)))
                _, rows, before = leaving(step, plan.policy.score, logits, before)
            if len(rows) and number + 1 < len(plan.steps):
                # Memory of their own, since the stage runs again for the next part.
                kept = backend.buffer(plan.steps[number + 1].stage, len(rows))
                backend.copy_rows(after, rows, kept, 0)
                going.append((kept, places[rows], before))
        parts = going
        answered = answered or step.looks
    return sheet.answers(plan)
