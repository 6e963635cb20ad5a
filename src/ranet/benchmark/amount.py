"""How much is measured: as many images as the time allows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Any, NamedTuple

from ranet.benchmark.opponents import TRAINED
from ranet.benchmark.timing import seconds_of_calls

#: Batches by which everything is warmed up, again and again for this share of the time, which tells how long they take.
WARM_UP, WARM_UP_SHARE = 3, 0.1
#: Of a round, for the network as trained, the slowest by far: it takes as long for any batch, so some of them will do.
TRAINED_SHARE = 0.25
Turn = Callable[[], list[float]]


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
    turns: Mapping[Any, Turn], stage_turn: Callable[[], object], batches: int, amount: Amount
) -> tuple[int, int]:
    """How many batches a round can answer within the time, and how many of them the network as trained.

    It warms everything up, and goes on with that for a part of the time: on a machine where other work runs, most of
    the time goes into a few batches, which three do not show.

    Args:
        turns: on `WARM_UP` batches each.
        stage_turn: likewise of the stages.
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
    trained, together = mean[TRAINED], sum(mean.values())
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
