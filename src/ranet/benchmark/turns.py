"""Taking turns, round by round: how contestants are timed fairly on a machine that is never quite idle."""

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
#: Fewer steps than this say nothing about the slowest of them.
ENOUGH = 100
#: Number of batches of a warm-up, and the share of the time in which warm-ups find out how long a batch takes.
WARM_UP, WARM_UP_SHARE = 3, 0.1
#: Share of a round for the network as trained. It is by far the slowest, and some batches are enough to time it.
TRAINED_SHARE = 0.25
Name = TypeVar("Name", bound=Hashable)
Result = TypeVar("Result")
Turn = Callable[[], list[float]]


@dataclass(frozen=True, eq=False)
class Pace:
    """The time of images that were answered in several rounds, each with the same batches in the same steps.

    The median of each step over the rounds leaves out what else ran on the machine for a moment; a mean of all steps,
    or a median of whole rounds, would not.

    Attributes:
        ms: milliseconds an image: the sum of the medians of all steps over the number of images.
        low, high: the same with lower and with upper quartiles.
        latency: (3,) the 50th, 95th and 99th percentile of the milliseconds of the steps of all rounds. The last two
            are NaN for fewer steps than `ENOUGH`.
        steps: number of steps in all rounds together.
    """

    ms: float
    low: float
    high: float
    latency: Floats
    steps: int

    @classmethod
    def of(cls, seconds: Sequence[Sequence[float]], images: int) -> Pace:
        """Return the pace of a round of this many images, from the seconds of each step in each round.

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
        """The number of images answered in a second."""
        return MILLISECONDS / self.ms

    def to_dict(self) -> dict[str, Any]:
        """Return everything for JSON."""
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
    """Call each contestant once a round, in another random order each round.

    A contestant finds the caches as the one before it left them. In random orders each follows each of the others. The
    orders are the same whenever this is called. ``tick`` is called after each call.

    Returns:
        For each name the results, round by round.

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
        for name in (names[place] for place in random.permutation(len(names))):
            results[name].append(contestants[name]())
            if tick is not None:
                tick()
    return results


def seconds_of_calls(answer: Callable[[Any], object], batches: Iterable[Any]) -> list[float]:
    """Return the seconds that each batch takes."""
    seconds = []
    for batch in batches:
        before = perf_counter()
        answer(batch)
        seconds.append(perf_counter() - before)
    return seconds


class Amount(NamedTuple):
    """How much is measured in one setting.

    Attributes:
        rounds: number of turns of each contestant.
        seconds: about how long all turns take together; None: every round answers all images.
        tick: called after every turn, with the number of all turns.
    """

    rounds: int = 5
    seconds: float | None = 30.0
    tick: Callable[[int], None] | None = None


def affordable(
    turns: Mapping[Any, Turn], slowest: Hashable, stage_turn: Callable[[], object], batches: int, amount: Amount
) -> tuple[int, int]:
    """Return the number of batches (of all) that a round can answer in the given time, and that for the slowest turn.

    The turns have `WARM_UP` batches each. Warm-ups go on for a part of the time: where other work runs on the machine,
    a few slow batches take most of it, and a single warm-up would miss them.
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
    """Return the seconds of one batch in each of the turns, which have `WARM_UP` batches."""
    calls = {name: turn() for name, turn in turns.items()}
    # A stream does the last of its work after the last batch.
    return {name: each[-1] if len(each) == WARM_UP else sum(each) / WARM_UP for name, each in calls.items()}
