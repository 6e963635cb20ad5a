"""Parallel work on many images, with a progress bar if it takes long."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from time import monotonic
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ranet.support.hardware import available_cores

Item = TypeVar("Item")
Result = TypeVar("Result")

_CHUNK = 16  # images that a thread takes at once
_AHEAD = 4  # waiting chunks for each thread
_UNSEEN = 3.0  # seconds before a bar is shown


def for_each(
    work: Callable[[Item], Result], items: Sequence[Item], what: str, show_bar: bool = True
) -> Iterator[Result]:
    """Yield the result of each item, in order, with one thread for each core (Pillow decodes in parallel).

    A progress bar appears on standard error after 3 seconds if it is a terminal.

    Args:
        work: function to call with each item, in a thread.
        items: the items, such as paths.
        what: name of the bar, such as "Reading images".
        show_bar: whether to allow a bar.

    Example:
        >>> list(for_each(str.upper, ["a", "b"], "Letters"))
        ['A', 'B']
    """

    def do(start: int) -> list[Result]:
        return [work(item) for item in items[start : start + _CHUNK]]

    threads, begun = available_cores(), monotonic()
    bar = _bar(show_bar)
    task = bar.add_task(what, total=len(items))
    with ThreadPoolExecutor(threads, thread_name_prefix="ranet-images") as pool:
        starts = iter(range(0, len(items), _CHUNK))
        waiting: deque[Future[list[Result]]] = deque()
        try:
            while True:
                waiting.extend(pool.submit(do, start) for start in islice(starts, _AHEAD * threads - len(waiting)))
                if not waiting:
                    return
                results = waiting.popleft().result()
                if monotonic() - begun > _UNSEEN:
                    bar.start()
                bar.advance(task, len(results))
                yield from results
        finally:
            bar.stop()
            for future in waiting:
                future.cancel()


def _bar(show: bool) -> Progress:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=not (show and console.is_terminal))
