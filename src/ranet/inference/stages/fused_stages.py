"""Which stages run as one: an exit that a policy never uses is no cut."""

from __future__ import annotations

from collections.abc import Sequence
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
    """Return the exits (from 0), in order, at which a policy looks at the answers; all images leave at the last.

    All images pass an exit with an infinite threshold, all leave at one with a threshold of minus infinity, and none
    goes on behind ``max_exit``. Patience counts how many exits in a row agree, so it looks at all of them.

    Args:
        policy: for K exits.
        max_exit: the deepest exit that may answer, 0..K-1; None is K - 1.

    Example:
        >>> used_exits(ExitPolicy((0.9, float("inf"), 0.8, 0.7)))
        [0, 2, 3, 4]
        >>> used_exits(ExitPolicy((0.9, float("inf"), 0.8, 0.7)), max_exit=1), used_exits(ExitPolicy((-float("inf"),)))
        ([0, 1], [0])
    """
    deepest = policy.num_exits - 1 if max_exit is None else max_exit
    for k, threshold in enumerate(policy.thresholds[:deepest]):
        if threshold == -inf:
            deepest = k
            break
    if policy.score == "patience":
        return list(range(deepest + 1))
    return [k for k, threshold in enumerate(policy.thresholds[:deepest]) if threshold < inf] + [deepest]


def fused_stages(exits: Sequence[int]) -> list[FusedStage]:
    """Return the fused stages between these exits, which ascend.

    Example:
        >>> fused_stages([0, 2, 3])
        [FusedStage(first=0, last=0), FusedStage(first=1, last=2), FusedStage(first=3, last=3)]
    """
    return [FusedStage(before + 1, at) for before, at in zip([-1, *exits[:-1]], exits, strict=True)]
