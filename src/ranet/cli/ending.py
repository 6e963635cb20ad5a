"""How a command ends when it is told to: by Ctrl-C or SIGTERM."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# Seconds within which a second signal is the first once more, from whoever passes Ctrl-C on.
_SAME = 1.0
# Where Lightning looks for the number of a process of a distributed run.
_RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")
_received: list[int] = []


class Stopped(Exception):  # noqa: N818 (no error: the user wanted it)
    """The command was told to end; the message is a sentence for the user.

    Attributes:
        status: to exit with, as shells say it: 130 for Ctrl-C, 143 for SIGTERM.
    """

    def __init__(self, sentence: str, status: int) -> None:
        super().__init__(sentence)
        self.status = status


def is_first_process() -> bool:
    """Return whether this is the process of a distributed run that writes and speaks, or the only one."""
    return next((os.environ[name] for name in _RANKS if name in os.environ), "0") == "0"


@contextmanager
def ended_in_order() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end the block alike: what is open is closed first, and nothing is half written.

    Both raise KeyboardInterrupt, which libraries know. A signal that was ignored before stays so: shells and ``nohup``
    want that.

    Raises:
        Stopped: if one of them came, whatever the block has made of it.
    """
    process, latest = os.getpid(), -_SAME

    def stop(number: int, _: FrameType | None) -> None:
        nonlocal latest
        if os.getpid() != process:  # a worker that was forked, which the process that made it ends
            if number != signal.SIGINT:
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)
            return
        _received.append(number)
        earlier, latest = latest, time.monotonic()
        if latest - earlier >= _SAME:
            raise KeyboardInterrupt

    _received.clear()
    before = {number: signal.getsignal(number) for number in _SIGNALS}
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
        # Python, too, takes its time to end.
        before = dict.fromkeys(_SIGNALS, signal.SIG_IGN)
        said = str(error) if isinstance(error, KeyboardInterrupt) else ""
        raise Stopped(said or "Stopped.", 128 + _received[0]) from error
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def when_stopped(sentence: Callable[[str], str]) -> Iterator[None]:
    """Say more than "Stopped." if Ctrl-C or SIGTERM ends the block.

    Args:
        sentence: makes the sentence of the one that is said without it, which may be empty.
    """
    try:
        yield
    except BaseException as error:
        if not _received:
            raise
        # Lightning, for one, makes another error of it.
        raise KeyboardInterrupt(sentence(str(error) if isinstance(error, KeyboardInterrupt) else "")) from error
