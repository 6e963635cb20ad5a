"""Parallel work on many images, with a progress bar if it takes long."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from ranet.support.hardware import available_cores
from ranet.support.progress import Bar

Item = TypeVar("Item")
Result = TypeVar("Result")

_CHUNK = 16  # images that a thread takes at once
_AHEAD = 4  # waiting chunks for each thread
_UNSEEN = 3.0  # seconds before a bar is shown


def for_each(work: Callable[[Item], Result], items: Sequence[Item], what: str) -> Iterator[Result]:
    """Yield the result of each item, in order, with one thread for each core (Pillow decodes in parallel).

    A progress bar appears on standard error after 3 seconds if it is a terminal.

    Args:
        work: function to call with each item, in a thread.
        items: the items, such as paths.
        what: name of the bar, such as "Reading images".

    Example:
        >>> list(for_each(str.upper, ["a", "b"], "Letters"))
        ['A', 'B']
    """

    def do(start: int) -> list[Result]:
        return [work(item) for item in items[start : start + _CHUNK]]

    threads = available_cores()
    with (
        Bar(what, after=_UNSEEN) as shown,
        ThreadPoolExecutor(threads, thread_name_prefix="ranet-images") as pool,
    ):
        starts = iter(range(0, len(items), _CHUNK))
        waiting: deque[Future[list[Result]]] = deque()
        done = 0
        try:
            while True:
                waiting.extend(pool.submit(do, start) for start in islice(starts, _AHEAD * threads - len(waiting)))
                if not waiting:
                    return
                results = waiting.popleft().result()
                done += len(results)
                shown(done, len(items))
                yield from results
        finally:
            for future in waiting:
                future.cancel()
