"""Timing things against each other on a machine that is never quite idle: they take turns, round by round."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from ranet.cost.timings import MILLISECONDS

Floats = npt.NDArray[np.float64]

PERCENTILES = (50, 95, 99)
#: Steps from which the tail of their times can be read.
ENOUGH = 100
#: Batches by which everything is warmed up, again and again for this share of the time, which tells how long they take.
WARM_UP, WARM_UP_SHARE = 3, 0.1
#: Of a round, for the network as trained, the slowest by far: it takes as long for any batch, so some of them will do.
TRAINED_SHARE = 0.25
Name = TypeVar("Name", bound=Hashable)
Result = TypeVar("Result")
Turn = Callable[[], list[float]]


@dataclass(frozen=True, eq=False)
class Pace:
    """How long images took.

    Every round answers the same batches with the same steps, so each step has a median over the rounds, and what
    else runs on the machine now and then drops out of it. A mean of all steps would hold it, and a median of the few
    rounds, too.

    Attributes:
        ms: milliseconds an image: the medians of all steps together.
        low: likewise of the lower quartiles.
        high: of the upper quartiles.
        latency: (3,) milliseconds of a step: its 50th, 95th and 99th percentile over the steps of all rounds; the
            latter two are NaN for fewer steps than `ENOUGH`, where they would be little more than the slowest step.
        steps: how many there are, in all rounds together.
    """

    ms: float
    low: float
    high: float
    latency: Floats
    steps: int

    @classmethod
    def of(cls, seconds: Sequence[Sequence[float]], images: int) -> Pace:
        """From the seconds of each step in each round, when a round answers this many images.

        Example:
            >>> pace = Pace.of([[0.001, 0.003], [0.001, 0.903], [0.901, 0.003]], images=4)
            >>> pace.ms, float(pace.latency[0])
            (1.0, 3.0)
        """
        steps = MILLISECONDS * np.asarray(seconds, dtype=np.float64)
        low, middle, high = (np.quantile(steps, (0.25, 0.5, 0.75), axis=0).sum(axis=1) / images).tolist()
        latency = np.percentile(steps, PERCENTILES)
        if steps.size < ENOUGH:
            latency[1:] = np.nan
        return cls(middle, low, high, latency, steps.size)

    @property
    def images_per_second(self) -> float:
        """As many of them as follow from `ms`."""
        return MILLISECONDS / self.ms

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "ms_per_image": self.ms,
            "quartiles_ms_per_image": [self.low, self.high],
            "images_per_second": self.images_per_second,
            "steps": self.steps,
            "latency_ms": dict(zip((f"p{p}" for p in PERCENTILES), self.latency.tolist(), strict=True)),
        }


def take_turns(
    contestants: Mapping[Name, Callable[[], Result]], rounds: int, tick: Callable[[], None] | None = None
) -> dict[Name, list[Result]]:
    """Call each contestant once a round; each round in a random order of its own.

    A contestant finds the caches as its predecessor left them, so the random orders let each follow each of the others.
    The orders are the same in every call.

    Args:
        contestants: by name.
        rounds: how many.
        tick: called after each call, for a progress bar.

    Returns:
        For each name the results in the order of the rounds.

    Example:
        >>> seen = []
        >>> _ = take_turns({name: lambda name=name: seen.append(name) for name in "abc"}, rounds=2)
        >>> "".join(sorted(seen[:3])), "".join(sorted(seen[3:]))
        ('abc', 'abc')
    """
    names = list(contestants)
    results: dict[Name, list[Result]] = {name: [] for name in names}
    random = np.random.default_rng(0)
    for _ in range(rounds):
        for place in random.permutation(len(names)):
            name = names[place]
            results[name].append(contestants[name]())
            if tick is not None:
                tick()
    return results


def seconds_of_calls(answer: Callable[[Any], object], batches: Iterable[Any]) -> list[float]:
    """Seconds that each batch takes."""
    seconds = []
    for batch in batches:
        before = perf_counter()
        answer(batch)
        seconds.append(perf_counter() - before)
    return seconds


class Amount(NamedTuple):
    """How much is measured.

    Attributes:
        rounds: how often everything has its turn.
        seconds: about how long the turns in one setting take together; None: every round answers all images.
        tick: called after every turn, with the number of turns in the setting.
    """

    rounds: int = 5
    seconds: float | None = 30.0
    tick: Callable[[int], None] | None = None


def affordable(
    turns: Mapping[Any, Turn], slowest: Hashable, stage_turn: Callable[[], object], batches: int, amount: Amount
) -> tuple[int, int]:
    """Return how many batches a round can answer within the time, and how many of them the slowest.

    It warms everything up, and goes on with that for a part of the time: on a machine where other work runs, most of
    the time goes into a few batches, which three do not show.

    Args:
        turns: on `WARM_UP` batches each.
        slowest: one of them: the network as trained.
        stage_turn: that of the stages.
        batches: how many there are at most.
        amount: with the time.
    """
    began = perf_counter()
    spent = [_seconds_a_batch(turns)]
    if amount.seconds is None:
        return batches, batches
    for_stages = sum(seconds_of_calls(lambda _: stage_turn(), [None]))
    while perf_counter() - began < WARM_UP_SHARE * amount.seconds:
        spent.append(_seconds_a_batch(turns))
    mean = {name: sum(each[name] for each in spent) / len(spent) for name in turns}
    trained, together = mean[slowest], sum(mean.values())
    left = max(amount.seconds / amount.rounds - for_stages, 0.0)
    count = int(left / together)
    if count * trained <= TRAINED_SHARE * left:
        count = min(max(count, 1), batches)
        return count, count
    count = min(max(int((1 - TRAINED_SHARE) * left / (together - trained)), 1), batches)
    return count, min(max(int(TRAINED_SHARE * left / trained), 1), count)


def _seconds_a_batch(turns: Mapping[Any, Turn]) -> dict[Any, float]:
    """Seconds that a batch takes in each of the turns, on `WARM_UP` batches."""
    calls = {name: turn() for name, turn in turns.items()}
    # A stream does the last of its work after the last batch.
    return {name: each[-1] if len(each) == WARM_UP else sum(each) / WARM_UP for name, each in calls.items()}
