"""Parallel work on many images, with a progress bar if it takes long."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from itertools import islice
from typing import TypeVar

from ranet.support.hardware import available_cores
from ranet.support.progress import Bar

Item = TypeVar("Item")
Result = TypeVar("Result")

AHEAD = 4  # waiting items for each thread
_CHUNK = 16  # images that a thread takes at once
_UNSEEN = 3.0  # seconds before a bar is shown


def ahead(work: Callable[[Item], Result], items: Iterable[Item], threads: int) -> Generator[Result, None, None]:
    """Yield the result of each item, in order; threads compute at most `AHEAD` results each in advance.

    Example:
        >>> list(ahead(str.upper, ["a", "b"], threads=2))
        ['A', 'B']
    """
    with ThreadPoolExecutor(threads, thread_name_prefix="ranet-images") as pool:
        rest = iter(items)
        waiting: deque[Future[Result]] = deque()
        try:
            while True:
                waiting.extend(pool.submit(work, item) for item in islice(rest, AHEAD * threads - len(waiting)))
                if not waiting:
                    return
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


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

    done = 0
    with (
        Bar(what, after=_UNSEEN) as shown,
        closing(ahead(do, range(0, len(items), _CHUNK), available_cores())) as chunks,
    ):
        for results in chunks:
            done += len(results)
            shown(done, len(items))
            yield from results
