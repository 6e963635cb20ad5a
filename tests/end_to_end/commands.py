"""The console script, in this process (its imports take seconds) or in one of its own."""

import contextlib
import io
import logging
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from joblib.externals.loky import get_reusable_executor

from ranet.cli.main import main
from ranet.evaluation.figures.style import STYLE

#: A training run of about a second: three steps on digits.
SHORT = [
    "data.train_copies=1",
    "data.eval_copies=1",
    "data.train_limit=96",
    "data.batch_size=32",
    "trainer.max_epochs=1",
    "trainer.accelerator=cpu",
    "trainer.precision=32-true",  # the same on every machine
    "trainer.enable_progress_bar=false",
    "logger.wandb.mode=disabled",
]
#: A network of two exits that takes milliseconds.
SMALL = [
    "model=msdnet",
    "model.blocks=2",
    "model.base=1",
    "model.step=1",
    "model.channels=4",
    "model.growth=2",
    "model.growth_factors=[1,2]",
    "model.bottleneck_factors=[1,2]",
]
#: What a running command handles, and ignores once one has stopped it (SIGALRM repeats a signal that was lost).
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)


@dataclass(frozen=True)
class Outcome:
    status: int
    out: str
    err: str


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def ranet(*arguments: str | Path, folder: Path, on_terminal: bool = False) -> Outcome:
    """Type ``ranet ARGUMENTS`` in a folder; an error with a traceback comes out of here.

    Standard output goes through a pipe, and so does standard error unless it is on a terminal.
    """
    out, err, status = io.StringIO(), _Terminal() if on_terminal else io.StringIO(), 0
    log = logging.getLogger()
    handlers, level = log.handlers[:], log.level
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["ranet", *map(str, arguments)])
        patch.delenv("RANET_DATA", raising=False)
        # Hydra composes each configuration twice, the first time only to look for hydra.mode, which no test sets.
        patch.setattr("hydra._internal.hydra.Hydra.get_mode", lambda *_, **__: None)
        for resolution in ("figure.dpi", "savefig.dpi"):
            patch.setitem(STYLE, resolution, 100)  # at 300 dpi the pixels of figures take a third of the time of tests
        environment = dict(os.environ)
        handlers_of = {number: signal.getsignal(number) for number in SIGNALS}
        try:
            main()
        except SystemExit as end:
            status = int(end.code or 0)
        finally:
            if "hydra/launcher=joblib" in arguments:  # whose workers would wait for the next sweep, in this folder
                get_reusable_executor().shutdown(wait=True, kill_workers=True)
            for number, handler in handlers_of.items():
                signal.signal(number, handler)  # a command that was stopped ignores them until its process is gone
            os.environ.clear()
            os.environ.update(environment)
            log.handlers[:], log.level = handlers, level
    return Outcome(status, out.getvalue(), err.getvalue())


def train(*arguments: str | Path, folder: Path) -> Outcome:
    """Type ``ranet train`` with the options of a short run."""
    outcome = ranet("train", *SHORT, *arguments, folder=folder)
    assert outcome.status == 0, outcome.err
    return outcome


def start(*arguments: str | Path, folder: Path, threads: int = 1) -> subprocess.Popen[str]:
    """Start ``ranet ARGUMENTS`` in a process, and a group of processes, of its own, as a terminal does."""
    return subprocess.Popen(
        [Path(sys.executable).with_name("ranet"), *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
        preexec_fn=hears_signals,
    )


def hears_signals() -> None:
    """Undo that a shell lets the jobs behind it ignore Ctrl-C, and whatever else this process ignores."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)


def content(folder: Path) -> dict[str, bytes]:
    """All files of a folder."""
    files = {str(file.relative_to(folder)): file for file in sorted(folder.rglob("*")) if file.is_file()}
    return {name: file.read_bytes() for name, file in files.items()}
