"""The one measurement of stages: what is a copy, a run and a step, and whose they are."""

from typing import Any

import numpy as np
import pytest

from ranet.inference.runtimes import stage_times as module
from ranet.inference.runtimes.backend import NetworkFacts
from ranet.inference.runtimes.stage_times import ROUNDS, measure_stages, time_chains
from ranet.inference.stages.fused_stages import FusedStage

FIRST, SECOND, WHOLE = FusedStage(0, 0), FusedStage(1, 1), FusedStage(0, 1)
DECISION = 0.5


class Clock:
    now = 0.0


class Backend:
    """Takes a second for each copy, some for each run, and as many as are given for each row."""

    name, precision, device, fixed_sizes = "torch", "float32", "cpu", None

    def __init__(self, clock: Clock, run: float, row: float = 0.0) -> None:
        self.facts = NetworkFacts(2, 2, 4, True, (0, 1), "0123")
        self.clock, self.seconds, self.row = clock, run, row
        self.order: list[Any] = []

    def buffer(self, stage: FusedStage, size: int) -> Any:
        return (np.zeros((size, 1)),)

    def copy_rows(self, source: Any, rows: Any, target: Any, at: int) -> None:
        self.clock.now += 1

    def run(self, stage: FusedStage, state: Any, rows: int) -> Any:
        self.clock.now += self.seconds * (stage.last - stage.first + 1) + self.row * rows
        return np.zeros((rows, 2), np.float32), state


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()

    def decide(*_: object) -> None:
        clock.now += DECISION

    monkeypatch.setattr(module, "perf_counter", lambda: clock.now)
    monkeypatch.setattr(module, "exit_scores", decide)
    return clock


@pytest.mark.parametrize(("size", "copied"), [(1, 0), (4, 1)])
def test_a_step_is_the_copy_the_run_and_the_decision(clock: Clock, size: int, copied: float) -> None:
    quick, slow = Backend(clock, 2), Backend(clock, 30)
    one, other = time_chains([(quick, [FIRST, SECOND]), (slow, [FIRST])], size)
    assert set(one[FIRST]) == {(1, 2, 3 + DECISION)}
    assert set(one[SECOND]) == {(copied, 2, 2 + copied + DECISION)}, "a single image is handed on as it is"
    assert set(other[FIRST]) == {(1, 30, 31 + DECISION)}, "the same stage of another backend"
    assert len(one[FIRST]) == len(other[FIRST]) == ROUNDS, "where there is no time for more"


def test_a_stage_of_several_chains_has_the_runs_of_all(clock: Clock) -> None:
    backend = Backend(clock, 2, row=0.5)
    times = measure_stages(backend, [[FIRST, SECOND], [WHOLE]], [2, 4])
    assert set(times.curves) == {FIRST, SECOND, WHOLE}
    np.testing.assert_allclose(times.curves[WHOLE].run, [5000, 6000])
    np.testing.assert_allclose(times.curves[FIRST].copy, [1000, 1000])
    assert times.step(SECOND, 3) == pytest.approx(1000 * (1 + 2 + 1.5 + DECISION))
    assert times.cautious(WHOLE, 4) == pytest.approx(1000 * (1 + 6 + DECISION))


def test_a_larger_batch_never_takes_less(clock: Clock) -> None:
    backend = Backend(clock, 9, row=-1)
    times = measure_stages(backend, [[FIRST]], [1, 2, 4])
    np.testing.assert_allclose(times.curves[FIRST].run, [8000, 8000, 8000])
    assert times.best_size([FIRST]) == 4
