"""The bar that is shown while something takes its time."""

from __future__ import annotations

from time import monotonic

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from ranet.support.console import new_console
from ranet.support.hardware import is_first_process


class Bar:
    """A bar on standard error where that is a terminal, in one process of a distributed run; nothing of it stays.

    Until it is told of progress it only shows that something goes on. Use it as a context manager, or end it.

    Args:
        what: what goes on, as in "Scoring test images".
        hidden: whether to show none.
        after: seconds after which the bar is shown, when it is told of progress.
        among_lines: whether to show it on standard output instead, below what is printed there meanwhile.
    """

    def __init__(self, what: str, *, hidden: bool = False, after: float = 0.0, among_lines: bool = False) -> None:
        console = new_console(stderr=not among_lines)
        self._progress = Progress(
            *(TextColumn("{task.description}", markup=False), BarColumn(20), TaskProgressColumn()),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=hidden or not console.is_terminal or not is_first_process(),
            refresh_per_second=4,  # seldom, for what is measured meanwhile
            redirect_stdout=among_lines,  # or rows on their way into a file would be drawn above the bar
        )
        self._task = self._progress.add_task(what, total=None)
        self._due = monotonic() + after
        self._start_if_due()

    def __call__(self, done: int, total: int) -> None:
        """Show how much is done, and of how much."""
        self._start_if_due()
        self._progress.update(self._task, completed=done, total=total)

    def step(self, total: float | None = None) -> None:
        """Show that one more is done."""
        self._progress.update(self._task, advance=1, total=total)

    def begin(self, what: str, total: float | None = None) -> None:
        """Show something else, from its beginning."""
        self._progress.reset(self._task, description=what, total=total)

    def end(self) -> None:
        """Remove the bar."""
        self._progress.stop()

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def _start_if_due(self) -> None:
        if monotonic() >= self._due:
            self._progress.start()
