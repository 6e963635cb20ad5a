"""Scores of a made-up network, for tests that need no real one."""

from typing import NamedTuple

import numpy as np

from ranet.calibration import ExitScores

CLASSES = [f"class {c}" for c in range(10)]


class Scored(NamedTuple):
    """A network's scores on both splits, and what its exits cost."""

    validation: ExitScores
    test: ExitScores
    costs: np.ndarray


def random_scored(exits: int = 4, images: int = 300, seed: int = 0) -> Scored:
    """Scores of a network that gets more confident and more right from exit to exit."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(10, size=2 * images)
    logits = rng.normal(size=(exits, 2 * images, 10)).astype(np.float32)
    signal = np.linspace(2.0, 4.0, exits)[:, None] * rng.uniform(0.0, 2.0, size=2 * images)
    logits[:, np.arange(2 * images), labels] += signal
    scores = ExitScores.from_logits(logits, labels)
    costs = np.cumsum(np.linspace(3e6, 9e6, exits))
    return Scored(scores.subset(slice(0, images)), scores.subset(slice(images, None)), costs)
