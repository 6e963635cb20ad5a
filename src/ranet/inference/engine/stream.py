"""A queue before every stage: full batches all the way, of images from many batches."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ranet.calibration.scores.in_numpy import Runs
from ranet.errors import UserError
from ranet.inference.engine.answers import Answers, AnswerSheet
from ranet.inference.engine.plan import Plan, leaving
from ranet.inference.images.checked import checked_images, empty_images
from ranet.inference.runtimes.backend import Backend, State, executed_parts

#: How many images may wait for their answer, or with their answer for those before them, before all queues are run.
MOST_WAITING = 4096
Indices = npt.NDArray[np.intp]


def stream(
    backend: Backend,
    plan: Plan,
    batches: Iterable[Any],
    batch_size: int,
    lock: AbstractContextManager[Any] = nullcontext(),  # noqa: B008, it has no state
) -> Iterator[Answers]:
    """Answer batches in order; see `EarlyExitEngine.stream`. The lock is held while the backend works."""
    shape = backend.facts.input_shape
    with lock:
        queues = _Queues(backend, plan, batch_size)
    for batch in batches:
        error = None
        try:
            images = checked_images(batch, shape, backend.device)
        except UserError as mistake:
            images, error = empty_images(shape), mistake
        with lock:
            queues.put(images, error)
            if queues.waiting > MOST_WAITING:
                queues.flush()
        yield from queues.finished()
    with lock:
        queues.flush()
    yield from queues.finished()
    assert not queues.waiting


class _Queue:
    """The images that wait for a stage: a buffer of its input, and the number of each image in it."""

    def __init__(self, backend: Backend, plan: Plan, step: int, size: int) -> None:
        self.buffer: State = backend.buffer(plan.steps[step].stage, size)
        self.images: Indices = np.zeros(size, dtype=np.intp)
        self.filled = 0
        # For patience: what the exit before has said.
        self.runs = Runs(np.zeros(size, dtype=np.intp), np.zeros(size, dtype=np.int64))


class _Queues:
    """One queue before each step of a plan, and the answers of the images that are on their way.

    Every image has a number, counted on as they come. Its answer stands in a row of a sheet until its batch is
    finished. A queue gathers ``size`` images before its stage runs.
    """

    def __init__(self, backend: Backend, plan: Plan, size: int) -> None:
        self._backend = backend
        self._plan = plan
        self._size = size
        self._patient = plan.policy.score == "patience"
        self._queues = [_Queue(backend, plan, step, size) for step in range(len(plan.steps))]
        self._sheet = AnswerSheet(0, backend.facts)
        self._first = 0  # the number of the image in the sheet's first row
        self._oldest = 0  # of the first image of the oldest batch
        self._next = 0  # of the next image
        self._batches: deque[tuple[int, UserError | None]] = deque()  # sizes and errors of those that are not finished

    @property
    def waiting(self) -> int:
        """The number of images in batches that are not finished."""
        return self._next - self._oldest

    def put(self, images: Any, error: UserError | None) -> None:
        """Let the images of a batch into the first queue, and run every queue that becomes full."""
        self._batches.append((len(images), error))
        start = self._next
        self._next += len(images)
        if self._next - self._first > len(self._sheet.exits):
            # More room than is needed now, so that answers are seldom moved.
            self._sheet = self._sheet.moved(self._oldest - self._first, 4 * self.waiting)
            self._first = self._oldest
        self._push(0, (images,), None, np.arange(start, self._next), None)

    def flush(self) -> None:
        """Run what waits in all queues, so that every image that has come is answered."""
        for step in range(len(self._queues)):
            if self._queues[step].filled:
                self._run(step)

    def finished(self) -> Iterator[Answers]:
        """Yield the answers of the batches, from the oldest on, whose images have all been answered."""
        while self._batches:
            count, error = self._batches[0]
            rows = slice(self._oldest - self._first, self._oldest - self._first + count)
            if (self._sheet.exits[rows] < 0).any():
                return
            self._batches.popleft()
            self._oldest += count
            answers = self._sheet.answers(self._plan, rows)
            yield answers if error is None else replace(answers, error=error)

    def _push(self, step: int, state: State, rows: Indices | None, numbers: Indices, before: Runs | None) -> None:
        """Copy rows of a state (None: all) into a queue, and run its stage whenever it is full.

        The state stays valid: only this and later stages run meanwhile.
        """
        queue = self._queues[step]
        at = 0
        while at < len(numbers):
            count = min(self._size - queue.filled, len(numbers) - at)
            there = slice(queue.filled, queue.filled + count)
            here = slice(at, at + count)
            if rows is None:
                self._backend.copy_rows(tuple(array[here] for array in state), None, queue.buffer, queue.filled)
            else:
                self._backend.copy_rows(state, rows[here], queue.buffer, queue.filled)
            queue.images[there] = numbers[here]
            if before is not None:
                queue.runs.labels[there], queue.runs.lengths[there] = before.labels[here], before.lengths[here]
            queue.filled += count
            at += count
            if queue.filled == self._size:
                self._run(step)

    def _run(self, step: int) -> None:
        """Run a stage on what is in its queue."""
        queue = self._queues[step]
        count, queue.filled = queue.filled, 0
        state = queue.buffer
        if count < self._size and self._backend.fixed_sizes is None:
            state = tuple(array[:count] for array in state)
        before = Runs(*(each[:count] for each in queue.runs)) if self._patient and step else None
        self._go_on(step, state, queue.images[:count].copy(), before)

    def _go_on(self, step: int, state: State, numbers: Indices, before: Runs | None) -> None:
        """Run a stage, write the answers of the images that leave, and send on the others."""
        here = self._plan.steps[step]
        logits, after = self._backend.run(here.stage, state, len(numbers))
        executed = executed_parts(self._backend.facts, after, len(numbers))
        if step == len(self._queues) - 1:
            self._sheet.write(numbers - self._first, here.stage.last, logits, executed)
            return
        rows: Indices | None = None
        following = None
        if here.looks:
            out, rows, following = leaving(here, self._plan.policy.score, logits, before)
            if len(out):
                self._sheet.write(numbers[out] - self._first, here.stage.last, logits[out], executed[out])
            if len(rows) == 0:
                return
            numbers = numbers[rows]
        everyone = rows is None or len(rows) == len(logits)
        if everyone and len(logits) == self._size and self._queues[step + 1].filled == 0:
            self._go_on(step + 1, after, numbers, following)  # a full batch needs no queue
        else:
            self._push(step + 1, after, rows, numbers, following)
