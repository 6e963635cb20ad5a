"""Scores and costs to choose exits by."""

from math import inf

import numpy as np
from hypothesis import strategies as st

from ranet.calibration import Calibration, CostTable, ExitScores


def lifelike(images: int, exits: int = 5, classes: int = 10, seed: int = 0) -> ExitScores:
    """Exits that err on the same hard images, the later ones less, and know how sure they may be."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=images)
    ease, shared = rng.normal(1.5, 2, size=images), rng.normal(size=(images, classes))
    logits = shared + 0.7 * rng.normal(size=(exits, images, classes))
    logits[:, np.arange(images), labels] += ease + np.linspace(1, 2.5, exits)[:, None]
    return ExitScores.from_logits((1.5 * logits).astype(np.float32), labels)


def decided(one: Calibration) -> tuple[object, ...]:
    return one.policy.thresholds, one.policy.score, one.policy.temperatures, one.exit_shares.tolist()


def stages_and_heads(stages: list[float], heads: list[float], cut: float) -> CostTable:
    """Heads between are dropped; a stage that is not the first pays for the cut before it."""
    places = range(len(stages))
    return CostTable("ms", [[sum(stages[a : b + 1]) + heads[b] + cut * (a > 0) for b in places] for a in places])


def free_cuts(costs: list[float]) -> CostTable:
    """Costs that add up, whatever is used."""
    before = [0.0, *costs[:-1]]
    return CostTable("ms", [[to - start if to > start else inf for to in costs] for start in before])


@st.composite
def tables(draw: st.DrawFn, exits: int | None = None) -> CostTable:
    """Measured anyhow: neither sums nor rows need be in order."""
    size = draw(st.integers(1, 6)) if exits is None else exits
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    grown = np.cumsum(rng.uniform(0.1, 2, size=(size, size)), axis=1)
    return CostTable("ms", grown if draw(st.booleans()) else rng.uniform(0.1, 5, size=(size, size)))
