import numpy as np
import pytest

from ranet.calibration import ExitScores

COSTS = [1.0e6, 2.5e6, 4.0e6, 9.0e6]


def random_scores(exits: int = 4, images: int = 400, classes: int = 10, seed: int = 0) -> ExitScores:
    """Scores of a network that gets more confident and more right from exit to exit."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=images)
    logits = rng.normal(size=(exits, images, classes))
    signal = np.linspace(1.0, 3.0, exits)[:, None] * rng.uniform(0.0, 2.0, size=images)
    logits[:, np.arange(images), labels] += signal
    return ExitScores.from_logits(logits.astype(np.float32), labels)


@pytest.fixture(scope="session")
def scores() -> ExitScores:
    return random_scores()


@pytest.fixture(scope="session")
def costs() -> list[float]:
    return COSTS
