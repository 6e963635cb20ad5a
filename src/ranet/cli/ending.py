"""The end of a command on Ctrl-C or SIGTERM."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import util
from types import FrameType
from typing import NoReturn

from ranet.support.hardware import is_first_process

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# Seconds within which a second signal counts as the first: programs that pass Ctrl-C on repeat it.
_SAME = 1.0
# Seconds after which a KeyboardInterrupt that was lost is raised again.
_AGAIN = 0.1
_received: list[int] = []


class Stopped(Exception):  # noqa: N818 (no error: the user wanted it)
    """The command was told to end, with a sentence for the user and a status: 130 for Ctrl-C, 143 for SIGTERM."""

    def __init__(self, sentence: str, status: int) -> None:
        super().__init__(sentence)
        self.status = status

    def leave(self) -> NoReturn:
        """Say the sentence and end the process at once.

        Python's own way to end would wait for workers that are gone, and report what was cut off.
        """
        if is_first_process():
            print(f"ranet: {self}", file=sys.stderr)
        for worker in multiprocessing.active_children():
            if worker.pid is not None:
                os.kill(worker.pid, signal.SIGKILL)  # joblib's workers have no kill()
            worker.join(1)
        util._run_finalizers(0)  # type: ignore[attr-defined] # gives semaphores back, or their keeper complains
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(self.status)


def leave_ctrl_c_to_parent() -> None:
    """Ignore Ctrl-C in a worker: its parent receives the signal, too, and ends its workers."""
    if multiprocessing.current_process().name != "MainProcess":
        signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def ended_in_order() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end the block in the same way: open files are closed first, and none is half written.

    Both raise KeyboardInterrupt, which libraries know. A signal that was ignored before stays so: shells and ``nohup``
    want that.

    Raises:
        Stopped: if one of them came, whatever error the block made of it. Further signals are ignored from then on.
    """
    process, latest = os.getpid(), -_SAME

    def stop(number: int, _: FrameType | None) -> None:
        nonlocal latest
        if os.getpid() != process:  # a worker that was forked, which the process that made it ends
            if number != signal.SIGINT:
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)
            return
        impatient = False
        if number != signal.SIGALRM:
            _received.append(number)
            earlier, latest = latest, time.monotonic()
            impatient = latest - earlier >= _SAME
            # Where Python drops what is raised, such as while a worker is forked, it is lost.
            signal.setitimer(signal.ITIMER_REAL, _AGAIN, _AGAIN)
            # PyTorch would raise an error of its own for each worker that the same signal has ended.
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        # While an exception is handled the block is on its way out.
        if impatient or sys.exc_info()[0] is None:
            raise KeyboardInterrupt

    _received.clear()
    numbers = (*_SIGNALS, signal.SIGALRM)
    before = {number: signal.getsignal(number) or signal.SIG_DFL for number in numbers}
    hook = sys.unraisablehook
    sys.unraisablehook = lambda dropped: None if _received else hook(dropped)
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, stop)
    try:
        yield
        if _received:
            raise KeyboardInterrupt
    except BaseException as error:
        if not _received:
            raise
        before = dict.fromkeys(numbers, signal.SIG_IGN)
        said = str(error) if isinstance(error, KeyboardInterrupt) else ""
        raise Stopped(said or "Stopped.", 128 + _received[0]) from error
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def when_stopped(sentence: Callable[[str], str]) -> Iterator[None]:
    """If Ctrl-C or SIGTERM ends the block, make a longer sentence of the one so far, which may be empty, to print."""
    try:
        yield
    except BaseException as error:
        if not _received:
            raise
        # Lightning, for one, makes another error of it.
        raise KeyboardInterrupt(sentence(str(error) if isinstance(error, KeyboardInterrupt) else "")) from error
