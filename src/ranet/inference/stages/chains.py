"""Chains of the fused stages that are there: what an exported folder can answer, and with which stages."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ranet.inference.stages.fused_stages import FusedStage, fused_stages


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


def shortest_chain(wanted: FusedStage, stages: Collection[FusedStage]) -> list[FusedStage] | None:
    """Return the fewest of these stages that, one after the other, compute a wanted stage; None if none do.

    The answers at the end are the same. Stages on the way also run the heads of exits that the policy does not use.

    Example:
        >>> shortest_chain(FusedStage(1, 3), [FusedStage(1, 1), FusedStage(2, 2), FusedStage(3, 3), FusedStage(2, 3)])
        [FusedStage(first=1, last=1), FusedStage(first=2, last=3)]
    """
    best: dict[int, list[FusedStage]] = {wanted.first: []}  # to what computes all before a stage
    for stage in sorted(stages):
        before = best.get(stage.first)
        if before is None or stage.last > wanted.last:
            continue
        known = best.get(stage.last + 1)
        if known is None or len(before) + 1 < len(known):
            best[stage.last + 1] = [*before, stage]
    return best.get(wanted.last + 1)


def chain_through(exits: Sequence[int], stages: Collection[FusedStage]) -> list[FusedStage] | None:
    """Return the fewest of these stages that answer at each of these exits, which ascend; None if they cannot.

    Example:
        >>> chain_through([0, 2], [FusedStage(0, 0), FusedStage(1, 2)])
        [FusedStage(first=0, last=0), FusedStage(first=1, last=2)]
        >>> chain_through([1], [FusedStage(0, 2)]) is None
        True
    """
    chain: list[FusedStage] = []
    for wanted in fused_stages(exits):
        part = shortest_chain(wanted, stages)
        if part is None:
            return None
        chain += part
    return chain
