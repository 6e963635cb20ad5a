"""Answer a batch stage by stage: each image up to its exit, or all of them while there is time."""

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


def answer_batch(
    plan: Plan,
    images: Any,
    backend: Backend,
    buffer_of: Callable[[FusedStage, int], State],
    compaction_pays: Callable[[FusedStage, int, int], bool],
) -> Answers:
    """Answer a batch of at most the largest size, stage by stage.

    ``buffer_of`` gives the buffer of a stage and a size. Rows of images that have left are dropped where
    ``compaction_pays`` for the next stage, from a number of rows to a smaller one.
    """
    count = len(images)
    sheet = AnswerSheet(count, backend.facts)
    if count == 0:
        return sheet.answers(plan)
    state = buffer_of(plan.steps[0].stage, sized(backend, count))
    backend.copy_rows((images,), None, state, 0)
    batch = count  # rows of the state that hold images, finished ones among them
    rows: Any = slice(None)  # of the state: the images that are still here
    places: Any = slice(None)  # which images these are
    left = count
    runs: Runs | None = None
    for number, step in enumerate(plan.steps, 1):
        logits, state = backend.run(step.stage, state, batch)
        if step.looks:
            here, executed = logits[rows], executed_parts(backend.facts, state, batch)[rows]
            if number < len(plan.steps):
                out, stay, runs = leaving(step, plan.policy.score, here, runs)
            if number == len(plan.steps) or len(stay) == 0:
                sheet.write(places, step.stage.last, here, executed)
                break
            if len(out):
                sheet.write(_of(places, out), step.stage.last, here[out], executed[out])
                places, rows, left = _of(places, stay), _of(rows, stay), len(stay)
        if left < batch:
            following = plan.steps[number].stage
            if compaction_pays(following, batch, left):
                buffer = buffer_of(following, sized(backend, left))
                backend.copy_rows(state, rows, buffer, 0)
                state, rows, batch = buffer, slice(None), left
    return sheet.answers(plan)


def answer_within(
    deadline: float,
    plan: Plan,
    images: Any,
    backend: Backend,
    times: StageTimes,
    buffer_of: Callable[[FusedStage, int], State],
) -> Answers:
    """Answer images exit by exit, all of them at one before any goes on to the next, until a deadline in milliseconds.

    A stage runs if the 95th percentile of its time still fits.
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


def _of(chosen: Any, rows: npt.NDArray[np.intp]) -> Any:
    """Return some of the rows that were chosen before; a slice has chosen all."""
    return rows if isinstance(chosen, slice) else chosen[rows]
