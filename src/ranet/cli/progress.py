"""The progress bar of the commands."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from ranet.cli.ending import is_first_process
from ranet.support.console import new_console


class Bar:
    """A visible bar; call it with the number of steps done and their total."""

    def __init__(self, progress: Progress, what: str) -> None:
        self._progress = progress
        self._task = progress.add_task(what, total=None)

    def __call__(self, done: int, total: int) -> None:
        """Show how many steps are done."""
        self._progress.update(self._task, completed=done, total=total)

    def step(self, total: int) -> None:
        """Show that one more step is done."""
        self._progress.update(self._task, advance=1, total=total)

    def begin(self, what: str) -> None:
        """Start again with another description."""
        self._progress.reset(self._task, description=what, total=None)


@contextmanager
def bar(what: str, hidden: bool = False) -> Iterator[Bar]:
    """Show a bar on standard error while the block runs, if it is a terminal; the bar is erased at the end.

    Until it is called, the bar shows only that something is going on. Nothing should be printed to standard output in
    the block.

    Args:
        what: description, such as "Scoring test images".
        hidden: whether to show no bar.
    """
    console = new_console(stderr=True)
    with Progress(
        *(TextColumn("{task.description}", markup=False), BarColumn(20), TaskProgressColumn(), TimeRemainingColumn()),
        console=console,
        transient=True,
        disable=hidden or not console.is_terminal or not is_first_process(),
        refresh_per_second=4,  # seldom, for what is measured meanwhile
        redirect_stdout=False,  # or rows on their way into a file or another program would be drawn above the bar
    ) as progress:
        yield Bar(progress, what)
