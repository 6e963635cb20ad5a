"""A network that takes as long as it is told to, and what a benchmark of it may have found."""

import contextlib
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ranet import EarlyExitEngine, ExitPolicy
from ranet.benchmark.results import CALL, STREAM, Answered, PolicyTimes, RivalTimes, Setting, SettingTimes
from ranet.benchmark.turns import Pace
from ranet.cost import CostTable
from ranet.inference.choosing.open_backend import Opened
from ranet.inference.engine import engine as engine_module
from ranet.inference.runtimes.backend import NetworkFacts, Precision, Rows, State
from ranet.inference.stages.fused_stages import FusedStage, fused_stages

EXITS, CLASSES, EDGE = 3, 4, 32
#: By which an image leaves at the exit that its first pixel names.
LEAVING = ExitPolicy((0.9,) * (EXITS - 1))


def images_that_leave_at(exits: Sequence[int]) -> npt.NDArray[np.float32]:
    images = np.zeros((len(exits), 3, EDGE, EDGE), dtype=np.float32)
    images[:, 0, 0, 0] = exits
    return images


class Clock:
    """A clock that does not depend on this machine: it advances by what is slept, and by a microsecond at each look."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1e-6
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class SleepingBackend:
    """Sleeps for each row in each stage, and for each stage that is run; the images are the state.

    Attributes:
        ran: by stage, how many rows it has run, while it counts.
    """

    name = "torch"
    precision: Precision = "float32"
    device = "cpu"
    fixed_sizes: tuple[int, ...] | None = None

    def __init__(self, for_row: float, for_cut: float = 0.0, exits: int = EXITS) -> None:
        self.facts = NetworkFacts(exits, CLASSES, EDGE, True, tuple(range(exits)), "none")
        self.for_row, self.for_cut = for_row, for_cut
        self.ran: Counter[FusedStage] = Counter()
        self.counts = True

    @contextlib.contextmanager
    def awake(self) -> Iterator[None]:
        """Do not sleep; for runs that are not measured."""
        slept = self.for_row, self.for_cut
        self.for_row = self.for_cut = 0.0
        yield
        self.for_row, self.for_cut = slept

    def run(self, stage: FusedStage, state: State, rows: int) -> tuple[npt.NDArray[np.float32], State]:
        images = state[0][:rows]
        if self.counts:
            self.ran[stage] += rows
        time.sleep(self.for_cut + self.for_row * rows * (stage.last - stage.first + 1))
        logits = np.zeros((rows, CLASSES), dtype=np.float32)
        logits[:, stage.last] = np.where(images[:, 0, 0, 0] <= stage.last, 9.0, 0.1)
        return logits, (images,)

    def buffer(self, stage: FusedStage, size: int) -> State:
        return (np.zeros((size, 3, EDGE, EDGE), dtype=np.float32),)

    def copy_rows(self, source: State, rows: Rows | None, target: State, at: int) -> None:
        given = source[0] if rows is None else source[0][rows]
        target[0][at : at + len(given)] = given


def sleeping_engine(monkeypatch: Any, backend: SleepingBackend, policy: ExitPolicy = LEAVING) -> EarlyExitEngine:
    opened = Opened(backend, fused_stages, lambda: CostTable.of_exits(np.arange(1.0, EXITS + 1), "macs"))  # type: ignore[arg-type]
    monkeypatch.setattr(engine_module, "open_network", lambda *_: opened)
    return EarlyExitEngine("a folder", policy, backend="torch")


def timing(ms: float) -> Pace:
    """Of calls that took 8 times as long, a twentieth of them ten times that."""
    return Pace(ms, 0.9 * ms, 1.2 * ms, np.array([8, 80, 88]) * ms, steps=200)


def found(
    setting: Setting = Setting("torch", "float32", 8),  # noqa: B008, it cannot change
    calls: Sequence[float] = (0.5, 0.9),
    streams: Sequence[float] | None = (0.4, 0.8),
    whole: float = 1.0,
    accuracy: Sequence[float] = (0.6, 0.7),
    rivals: Sequence[RivalTimes] = (),
) -> SettingTimes:
    """What was found in a setting, in milliseconds an image of each policy."""
    policies = []
    for number, ms in enumerate(calls):
        ways = {CALL: timing(ms)} | ({} if streams is None else {STREAM: timing(streams[number])})
        answered = Answered(accuracy[number], -0.001 * (number + 1), 0.99 - 0.01 * number)
        shares = np.array([0.5, 0.25, 0.25])
        policies.append(PolicyTimes(f"{25 * number + 50} %", 0.49, 0.48, ms / 1.1, ways, answered, shares))
    return SettingTimes(
        setting=setting,
        images=80,
        whole_macs=0.8,
        trained_macs=0.9,
        trained=timing(4 * whole),
        whole=timing(whole),
        all_exits=timing(1.25 * whole),
        stages=whole * np.array([0.5, 0.25, 0.75]),
        stages_uncut=1.25 * whole,
        policies=policies,
        rivals=rivals,
        last_exit=Answered(0.75, -0.002, 0.995),
    )
