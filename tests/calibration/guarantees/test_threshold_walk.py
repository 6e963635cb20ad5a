from math import inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranet.calibration import ExitPolicy, ExitScores
from ranet.calibration.guarantees.threshold_walk import STEPS, count_along, count_ever, steps_of_exits, threshold_grid


@st.composite
def problems(draw) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores with ties and saturation, marks, and a grid that some scores lie on and that may end above others."""
    exits, images = draw(st.integers(1, 5)), draw(st.integers(1, 30))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    values = np.unique(rng.random(draw(st.integers(1, 12))).astype(np.float32))
    compared = rng.choice(np.append(values, np.float32(1)), size=(exits, images))
    grid = np.append(rng.choice(values, size=max(1, len(values) // 2), replace=False), rng.random(3)).astype(np.float32)
    return compared, rng.random((exits, images)) < 0.4, np.append(np.unique(grid), np.float32(inf))[::-1]


@given(problems())
def test_counts_along_the_walk_are_those_of_policies_one_by_one(problem):
    compared, marked, grid = problem
    exits, images = compared.shape
    scores = ExitScores(compared)
    counts, ever_marked = [], np.zeros(images, dtype=bool)
    ever = []
    for threshold in grid.tolist():
        left_at = ExitPolicy((threshold,) * (exits - 1)).exits(scores)
        hit = marked[left_at, np.arange(images)]
        ever_marked |= hit
        counts.append(hit.sum())
        ever.append(ever_marked.sum())
    steps = steps_of_exits(compared, grid)
    np.testing.assert_array_equal(count_along(steps, marked, len(grid)), counts)
    np.testing.assert_array_equal(count_ever(steps, marked, len(grid)), ever)


@pytest.mark.parametrize("score", ["confidence", "margin", "entropy", "patience"])
@pytest.mark.parametrize("exits", [1, 2, 10])
def test_the_grid_goes_from_no_image_to_all(score, exits):
    grid = threshold_grid(score, exits)
    assert grid.dtype == np.float32
    assert grid[0] == inf
    assert (np.diff(grid) < 0).all()
    assert 0.8 * STEPS < len(grid) < 1.2 * STEPS + 20
    least = {"confidence": 1e-6, "margin": 0.0, "entropy": -np.log(100_000), "patience": 1.0}[score]
    assert np.isfinite(grid[-1])
    assert grid[-1] <= least


@pytest.mark.parametrize("score", ["confidence", "margin", "entropy", "patience"])
def test_the_grid_is_fine_enough_to_waste_little(score, scores):
    """Between neighbouring thresholds, few images change their exit, wherever the scores crowd."""
    grid = threshold_grid(score, scores.num_exits)
    logits = np.random.default_rng(0).normal(size=(4, 5000, 10)) * np.arange(1, 9, 2)[:, None, None]
    compared = ExitScores.from_logits(logits, np.zeros(5000)).score(score)
    left = count_along(steps_of_exits(compared, grid), np.arange(4)[:, None] < np.full((4, 5000), 3), len(grid))
    assert left[0] == 0
    assert left[-1] == 5000
    assert np.diff(left[2:]).max() < 0.03 * 5000
