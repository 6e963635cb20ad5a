from pathlib import Path

import numpy as np
import pytest
from made_up_network import Scored, random_scored

from ranet.calibration import ExitScores


def fixture_folder() -> Path:
    """The folder of reference answers; they are not part of the repository."""
    for parent in Path(__file__).resolve().parents:
        if (parent / "shared" / "fixtures").is_dir():
            return parent / "shared" / "fixtures"
    pytest.skip("the reference scores (shared/fixtures) are not on this machine")


@pytest.fixture(scope="session")
def reference_csv() -> Path:
    """The reference procedure's 39 points for `reference`."""
    return fixture_folder() / "msdnet_cifar10_budgeted.csv"


@pytest.fixture(scope="session")
def reference_logits() -> dict[str, np.ndarray]:
    with np.load(fixture_folder() / "msdnet_cifar10_scores.npz") as file:
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


@pytest.fixture(scope="session")
def scored() -> Scored:
    return random_scored()


@pytest.fixture(scope="session")
def pictures(scored: Scored) -> np.ndarray:
    """One picture for each test image of `scored`."""
    return np.random.default_rng(0).integers(0, 256, size=(scored.test.num_images, 3, 8, 8), dtype=np.uint8)
