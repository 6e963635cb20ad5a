"""A queue before every stage: full batches all the way, of images from many batches."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt

from ranet.calibration.scores.in_numpy import Runs
from ranet.errors import UserError
from ranet.inference.engine.answers import Answers, AnswerSheet
from ranet.inference.engine.leaving import leaving
from ranet.inference.engine.plan import Plan
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
    lock: AbstractContextManager[Any] | None = None,
) -> Iterator[Answers]:
    """Answer batches in order; see `EarlyExitEngine.stream`.

    Args:
        backend: that runs the stages.
        plan: the steps.
        batches: of images, as `checked_images` wants them; a batch that is none is answered by its error.
        batch_size: of every stage.
        lock: held while the backend works.
    """
    held = nullcontext() if lock is None else lock
    with held:
        queues = Queues(backend, plan, batch_size)
    waiting: deque[_Request] = deque()
    for batch in batches:
        request = _Request(*_checked(batch, backend))
        waiting.append(request)
        with held:
            request.start = queues.admit(len(request.images))
            queues.put(request.images, request.start)
            if queues.waiting > MOST_WAITING:
                queues.flush()
        request.images = request.images[:0]
        yield from _finished(waiting, queues)
    with held:
        queues.flush()
    yield from _finished(waiting, queues)
    assert not waiting


class _Request:
    """A batch that came, and where its answers will stand."""

    def __init__(self, images: Any, error: UserError | None) -> None:
        self.images = images
        self.error = error
        self.size = len(images)
        self.start = 0


def _checked(batch: Any, backend: Backend) -> tuple[Any, UserError | None]:
    shape = backend.facts.input_shape
    try:
        return checked_images(batch, shape, backend.device), None
    except UserError as error:
        return empty_images(shape), error


def _finished(waiting: deque[_Request], queues: Queues) -> Iterator[Answers]:
    """Yield the answers of the requests, from the oldest on, whose images have all been answered."""
    while waiting and queues.answered(waiting[0].start, waiting[0].size):
        request = waiting.popleft()
        answers = queues.release(request.start, request.size)
        yield answers if request.error is None else _with_error(answers, request.error)


def _with_error(answers: Answers, error: UserError) -> Answers:
    return Answers(**{**vars(answers), "error": error})


class _Queue:
    """The images that wait for a stage: a buffer of its input, and the number of each image in it."""

    def __init__(self, backend: Backend, plan: Plan, step: int, size: int) -> None:
        stage = plan.steps[step].stage
        self.buffer: State = backend.buffer(stage, size)
        backend.prepare(stage, self.buffer)
        self.images: Indices = np.zeros(size, dtype=np.intp)
        self.filled = 0
        # For patience: what the exit before has said.
        self.runs = Runs(np.zeros(size, dtype=np.intp), np.zeros(size, dtype=np.int64))


class Queues:
    """One queue before each step of a plan, and the answers of the images that are on their way.

    Every image has a number, counted on as they come. Its answer stands in a ring of rows, at the number modulo the
    size of the ring, until it is released.

    Args:
        backend: that runs the stages.
        plan: the steps.
        size: how many images a queue gathers before its stage runs.
    """

    def __init__(self, backend: Backend, plan: Plan, size: int) -> None:
        self._backend = backend
        self._plan = plan
        self._size = size
        self._patient = plan.policy.score == "patience"
        self._queues = [_Queue(backend, plan, step, size) for step in range(len(plan.steps))]
        self._sheet = AnswerSheet(0, backend.facts)
        self._next = 0  # the number of the next image
        self._oldest = 0  # that is not released

    @property
    def waiting(self) -> int:
        """How many images have come and are not released."""
        return self._next - self._oldest

    def admit(self, count: int) -> int:
        """Number this many images, and make room for their answers; returns the number of the first."""
        start = self._next
        self._next += count
        if self.waiting > len(self._sheet.exits):
            self._grow(max(self.waiting, 2 * len(self._sheet.exits)))
        return start

    def put(self, images: Any, start: int) -> None:
        """Let images, numbered from ``start``, into the first queue; every queue that becomes full runs."""
        numbers = np.arange(start, start + len(images))
        self._push(0, (images,), None, numbers, None)

    def flush(self) -> None:
        """Run what waits in all queues, so that every image that has come is answered."""
        for step in range(len(self._queues)):
            if self._queues[step].filled:
                self._run(step)

    def answered(self, start: int, count: int) -> bool:
        """Return whether these images have all been answered."""
        return count == 0 or bool(self._sheet.exits[self._places(start, count)].min() >= 0)

    def release(self, start: int, count: int) -> Answers:
        """Return the answers of images that have all been answered, the oldest that are not released."""
        places = self._places(start, count)
        answers = self._sheet.answers(self._plan, places)
        self._sheet.exits[places] = -1
        self._oldest += count
        return answers

    def _places(self, start: int, count: int) -> Any:
        """Return where the answers of images with numbers from ``start`` on stand."""
        size = len(self._sheet.exits)
        first = start % size if count else 0
        return slice(first, first + count) if first + count <= size else np.arange(start, start + count) % size

    def _grow(self, size: int) -> None:
        """Move what is in the ring to a larger one."""
        old, new = self._sheet, AnswerSheet(size, self._backend.facts)
        if len(old.exits):
            kept = np.arange(self._oldest, min(self._next, self._oldest + len(old.exits)))
            places = kept % len(old.exits)
            for name in ("exits", "logits", "executed"):
                getattr(new, name)[kept % size] = getattr(old, name)[places]
        self._sheet = new

    def _push(
        self,
        step: int,
        state: State,
        rows: Indices | None,
        numbers: Indices,
        before: Runs | None,
    ) -> None:
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
            self._sheet.write(numbers % len(self._sheet.exits), here.stage.last, logits, executed)
            return
        rows: Indices | None = None
        following = None
        if here.looks:
            out, rows, following = leaving(here, self._plan.policy.score, logits, before)
            if len(out):
                places = numbers[out] % len(self._sheet.exits)
                self._sheet.write(places, here.stage.last, logits[out], executed[out])
            if len(rows) == 0:
                return
            numbers = numbers[rows]
        everyone = rows is None or len(rows) == len(logits)
        if everyone and len(logits) == self._size and self._queues[step + 1].filled == 0:
            self._go_on(step + 1, after, numbers, following)  # a full batch needs no queue
        else:
            self._push(step + 1, after, rows, numbers, following)
