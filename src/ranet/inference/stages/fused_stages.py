"""Which stages run as one: an exit that a policy never uses is no cut, and an export has only some of the stages."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from math import inf
from typing import NamedTuple

from ranet.calibration.policies.exit_policy import ExitPolicy


class FusedStage(NamedTuple):
    """Stages ``first``..``last`` of a network (from 0) as one graph, which is answered at exit ``last``.

    Where heads can be skipped, those of the exits between are not in it.
    """

    first: int
    last: int


def used_exits(policy: ExitPolicy, max_exit: int | None = None) -> list[int]:
    """Return the exits (from 0), in order, whose answers a policy looks at; all images leave at the last.

    All images pass an exit with an infinite threshold, and leave at one with a threshold of minus infinity or at
    ``max_exit``. Patience counts how many exits in a row agree, so it looks at all of them.

    Example:
        >>> used_exits(ExitPolicy((0.9, float("inf"), 0.8, 0.7)))
        [0, 2, 3, 4]
        >>> used_exits(ExitPolicy((0.9, float("inf"), 0.8, 0.7)), max_exit=1), used_exits(ExitPolicy((-float("inf"),)))
        ([0, 1], [0])
    """
    deepest = policy.num_exits - 1 if max_exit is None else max_exit
    before = policy.thresholds[:deepest]
    if -inf in before:
        deepest = before.index(-inf)
    if policy.score == "patience":
        return list(range(deepest + 1))
    return [k for k, threshold in enumerate(before[:deepest]) if threshold < inf] + [deepest]


def fused_stages(exits: Sequence[int]) -> list[FusedStage]:
    """Return the fused stages between these exits, which ascend.

    Example:
        >>> fused_stages([0, 2, 3])
        [FusedStage(first=0, last=0), FusedStage(first=1, last=2), FusedStage(first=3, last=3)]
    """
    return [FusedStage(before + 1, at) for before, at in zip([-1, *exits[:-1]], exits, strict=True)]


def reachable_cuts(stages: Collection[FusedStage]) -> tuple[int, ...]:
    """Return the exits (from 0), ascending, at which a chain of these stages from the images can end.

    Example:
        >>> reachable_cuts([FusedStage(0, 1), FusedStage(2, 2), FusedStage(4, 5)])
        (1, 2)
    """
    reached = {-1}
    for stage in sorted(stages):  # by where they start: what leads there has been met
        if stage.first - 1 in reached:
            reached.add(stage.last)
    return tuple(sorted(reached - {-1}))


def chain_through(exits: Sequence[int], stages: Collection[FusedStage]) -> list[FusedStage] | None:
    """Return the fewest of these stages that answer at each of these exits, which ascend; None if they cannot.

    Stages on the way also run the heads of exits that the policy does not use.

    Example:
        >>> chain_through([0, 2], [FusedStage(0, 0), FusedStage(1, 1), FusedStage(1, 2), FusedStage(2, 2)])
        [FusedStage(first=0, last=0), FusedStage(first=1, last=2)]
        >>> chain_through([1], [FusedStage(0, 2)]) is None
        True
    """
    best: dict[int, list[FusedStage]] = {0: []}  # the shortest chain up to the start of a stage
    for stage in sorted(stages):
        before, known = best.get(stage.first), best.get(stage.last + 1)
        if before is None or any(stage.first <= k < stage.last for k in exits):
            continue
        if known is None or len(before) + 1 < len(known):
            best[stage.last + 1] = [*before, stage]
    return best.get(exits[-1] + 1)
