"""What is decided about a single image is what is decided about a batch."""

from importlib.util import find_spec

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ranet import Answers, EarlyExitEngine, ExitPolicy
from ranet.calibration.scores.in_numpy import exit_scores, softmax
from ranet.inference.engine.one_image import reaches, softmax_of_one
from tests.inference.networks import make
from tests.inference.replay import all_logits, between_scores, check_answers

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


@pytest.mark.parametrize(
    ("score", "backend"),
    [
        *((score, "torch") for score in SCORES),
        # What leaves is decided outside of the runtime: two scores suffice every day.
        *(pytest.param(score, "openvino", marks=[] if score in ("confidence", "patience") else [pytest.mark.slow])
          for score in SCORES if find_spec("openvino")),
    ],
)  # fmt: skip
def test_one_by_one_is_the_replay(score: str, backend: str) -> None:
    network = make("msdnet_tiny")
    for head in network.heads:
        head.linear.bias.data[3] += 8  # so that exits agree
    images = np.random.default_rng(0).standard_normal((24, 3, 32, 32), dtype=np.float32)
    logits = all_logits(network, images)
    temperatures = (1.5, 0.7, 1.0, 2.0, 1.3)
    thresholds = between_scores(score, logits, [0.6] * 4, temperatures)
    policy = ExitPolicy(thresholds, score=score, temperatures=temperatures)
    assert score != "patience" or max(thresholds) > 2, "what earlier exits said has no part in it"
    engine = EarlyExitEngine(network, policy, backend)
    alone = [engine(images[i : i + 1]) for i in range(len(images))]  # and kept while others are answered
    names = ("labels", "probabilities", "exits", "confidences", "costs", "logits", "executed")
    together = Answers(
        **{name: np.concatenate([getattr(each, name) for each in alone]) for name in names}, unit=engine.unit
    )
    check_answers(together, policy, logits)
    batch = engine(images)
    for name in names:
        assert getattr(together, name).dtype == getattr(batch, name).dtype
    np.testing.assert_array_equal(together.costs, batch.costs)


def test_ties_stay_ties() -> None:
    """Two logits may become one in float32 when they are divided; then the first class wins, as in a batch."""
    first = np.random.default_rng(0).uniform(1, 8, size=2000).astype(np.float32)
    rows = np.stack([first, np.nextafter(first, np.float32(9)), np.full_like(first, -3)], axis=1)
    together = softmax(rows, 3.3).argmax(axis=1)
    assert 0.1 < together.mean() < 0.9
    np.testing.assert_array_equal([softmax_of_one(row[None], 3.3).argmax() for row in rows], together)
