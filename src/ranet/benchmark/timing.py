"""Timing things against each other on a machine that is never quite idle: they take turns, round by round."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from ranet.cost.timings import MILLISECONDS

Floats = npt.NDArray[np.float64]

PERCENTILES = (50, 95, 99)
#: Steps from which the tail of their times can be read.
ENOUGH = 100
Name = TypeVar("Name", bound=Hashable)
Result = TypeVar("Result")


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
