"""Failed jobs of a sweep: the other jobs continue, and the failed ones are listed at the end."""

from __future__ import annotations

import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from ranet.cli.outputs.own_folder import LOCK
from ranet.support.console import new_console, print_sheets
from ranet.support.sheet import Sheet

FAULT = "fault of the program: its traceback is above"
#: The option that makes Hydra call `NoteSweep`.
NOTE = "+hydra.callbacks.note._target_=ranet.cli.sweep.NoteSweep"
_failed: dict[int, Failure] = {}
_sweep: list[tuple[Path, bool]] = []


@dataclass(frozen=True)
class Failure:
    """A failed job, as the value that the job returns.

    Hydra does not give out what jobs return, so a failure notes itself when it is made; one of another process is made
    again when it is unpickled here.

    """

    job: int
    overrides: str  # the options that only this job has
    sentence: str  # what went wrong

    def __post_init__(self) -> None:
        _failed[self.job] = self

    def __reduce__(self) -> tuple[Any, ...]:
        return Failure, (self.job, self.overrides, self.sentence)


def new_sweep() -> None:
    """Forget the failures of an earlier sweep."""
    _failed.clear()
    _sweep.clear()


def this_job() -> str:
    """Return number and options of the running job."""
    return f"job {HydraConfig.get().job.num} ({_overrides() or 'no options'})"


def failure(sentence: str | None) -> Failure:
    """Print and return the failure of the running job; without a sentence it is a fault of the program."""
    said = sentence or FAULT
    if sentence is None:
        traceback.print_exc()
    print(f"ranet: {this_job()} failed: {said}", file=sys.stderr, flush=True)
    return Failure(int(HydraConfig.get().job.num), _overrides(), said)


def failures() -> list[Failure]:
    """Return the jobs of this sweep that have failed, by number."""
    return [_failed[job] for job in sorted(_failed)]


class NoteSweep(Callback):
    """Hydra's callback in the process that starts the jobs of a sweep."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Note the folder of the jobs, and whether they can be resumed."""
        _sweep.append((Path(config.hydra.sweep.dir), "resume" in config))


def stopped_sweep() -> str:
    """Return the sentence for a sweep that was stopped while jobs ran in other processes; "" for other commands."""
    if not _sweep:
        return ""
    folder, resumes = _sweep[0]
    running = sorted(lock.parent.name for lock in folder.glob(f"*/{LOCK}"))
    jobs = f" in the jobs {', '.join(running)}" if running else ""
    return f"Stopped{jobs}" + (f"; the same command with sweep={folder} resume=true continues it." if resumes else ".")


def print_failures() -> None:
    """Print a table of the jobs that have failed, if any have, on standard error."""
    if not _failed:
        return
    rows = [{"job": str(one.job), "options": one.overrides, "error": one.sentence} for one in failures()]
    print_sheets(new_console(stderr=True), Sheet("Jobs that failed", rows))


def _overrides() -> str:
    """Return the options that this job does not share with the others."""
    shared = {word.lower() for word in sys.argv}  # Hydra writes True for true
    return " ".join(option for option in HydraConfig.get().overrides.task if option.lower() not in shared)
