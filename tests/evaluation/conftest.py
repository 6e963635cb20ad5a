from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from ranet.calibration import ExitScores


class Scored(NamedTuple):
    """A network's scores on both splits, and what its exits cost."""

    validation: ExitScores
    test: ExitScores
    costs: np.ndarray


@pytest.fixture(scope="session")
def reference_csv(shared: Path) -> Path:
    """The reference procedure's 39 points for `reference`."""
    return shared / "fixtures" / "msdnet_cifar10_budgeted.csv"


@pytest.fixture(scope="session")
def reference_logits(shared: Path) -> dict[str, np.ndarray]:
    with np.load(shared / "fixtures" / "msdnet_cifar10_scores.npz") as file:
        return dict(file)


@pytest.fixture(scope="session")
def reference(reference_logits: dict[str, np.ndarray]) -> Scored:
    """A really trained MSDNet on CIFAR-10."""
    logits = reference_logits
    return Scored(
        ExitScores.from_logits(logits["val_logits"], logits["val_labels"]),
        ExitScores.from_logits(logits["test_logits"], logits["test_labels"]),
        logits["paper_ops"],
    )


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


@pytest.fixture(scope="session")
def make_scored() -> Callable[..., Scored]:
    """A made-up network of any number of exits."""
    return random_scored


@pytest.fixture(scope="session")
def scored() -> Scored:
    return random_scored()


@pytest.fixture(scope="session")
def class_names() -> list[str]:
    return [f"class {c}" for c in range(10)]


@pytest.fixture(scope="session")
def pictures(scored: Scored) -> np.ndarray:
    """One picture for each test image of `scored`."""
    return np.random.default_rng(0).integers(0, 256, size=(scored.test.num_images, 3, 8, 8), dtype=np.uint8)
