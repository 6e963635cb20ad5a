"""What is decided about a single image is what is decided about a batch."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ranet import EarlyExitEngine, ExitPolicy
from ranet.inference.one_image import reaches, softmax_of_one
from ranet.inference.scoring import exit_scores, softmax
from tests.inference.networks import make

LOGITS = st.lists(st.floats(-150, 150, width=32), min_size=1, max_size=12)
TEMPERATURES = st.sampled_from([0.05, 0.5, 1.0, 1.7])
SCORES = ("confidence", "margin", "entropy", "patience")


@given(LOGITS, st.sampled_from(SCORES), TEMPERATURES, st.floats(-1, 2, width=32))
@example([0.0, 0.0], "confidence", 1.0, 0.4)
@example([-np.inf, 1.0], "margin", 1.0, 0.9)
def test_who_leaves_is_what_the_scores_say(
    logits: list[float], score: str, temperature: float, threshold: float
) -> None:
    row = np.array([logits], dtype=np.float32)
    found = reaches(row, score, temperature, np.float32(threshold))
    wanted = bool(exit_scores(row, score, temperature)[0][0] >= np.float32(threshold))
    assert found in (wanted, None)


@given(LOGITS, st.sampled_from(SCORES), TEMPERATURES)
def test_a_score_that_is_the_threshold_is_left_to_the_scores(
    logits: list[float], score: str, temperature: float
) -> None:
    row = np.array([logits], dtype=np.float32)
    assert reaches(row, score, temperature, exit_scores(row, score, temperature)[0][0]) is None


@pytest.mark.parametrize("score", ["confidence", "margin"])
def test_it_does_decide(score: str) -> None:
    row = np.float32([[0.0, 2.0, -1.0]])
    (exact,) = exit_scores(row, score, 1.3)[0]
    assert reaches(row, score, 1.3, exact - np.float32(0.001)) is True
    assert reaches(row, score, 1.3, exact + np.float32(0.001)) is False
    assert reaches(row, score, 1.3, np.float32(-np.inf)) is True


@pytest.mark.parametrize(
    "row", [[np.nan, 1.0], [1.0, np.nan], [np.inf, 1.0], [-np.inf, -np.inf], [1e30, 0.0], [0.0] * 101]
)
def test_what_it_leaves_to_the_scores(row: list[float]) -> None:
    assert reaches(np.float32([row]), "confidence", 1.0, np.float32(0.7)) is None


@given(LOGITS, TEMPERATURES)
def test_the_softmax(logits: list[float], temperature: float) -> None:
    row = np.array([logits], dtype=np.float32)
    found = softmax_of_one(row, temperature)
    assert found.dtype == np.float32
    # Logits of 150 over 0.05 differ by 2e-4 between two float32 numbers.
    np.testing.assert_allclose(found, softmax(row, temperature), atol=1e-3)
    np.testing.assert_array_equal(
        softmax_of_one(np.tile(row, 101), temperature), softmax(np.tile(row, 101), temperature)
    )


@pytest.mark.parametrize("score", SCORES)
def test_one_by_one_or_together(score: str) -> None:
    network = make("msdnet_tiny")
    images = np.random.default_rng(0).standard_normal((24, 3, 32, 32), dtype=np.float32)
    everybody = EarlyExitEngine(network, ExitPolicy((-np.inf,) * 4, score=score), "torch")(images)
    threshold = float(np.median(exit_scores(everybody.logits, score)[0]))
    engine = EarlyExitEngine(network, ExitPolicy((threshold,) * 4, score=score), "torch")
    together = engine(images)
    assert len(set(together.exits.tolist())) > 1, "all leave at one exit"
    for i in range(len(images)):
        alone = engine(images[i : i + 1])
        assert (alone.labels.item(), alone.exits.item()) == (together.labels[i], together.exits[i])
        assert alone.costs.item() == together.costs[i]
        for name in ("probabilities", "confidences", "logits"):
            np.testing.assert_allclose(getattr(alone, name)[0], getattr(together, name)[i], atol=1e-5)
