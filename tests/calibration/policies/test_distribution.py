import json
from itertools import pairwise
from math import inf, nan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ranet.calibration import ExitPolicy, calibrate, load_policy
from ranet.calibration.policies.distribution import bin_counts, stored_distribution, summarise_scores
from ranet.errors import UserError

# Few distinct values, so that ties are common.
CROWDED = arrays(
    np.float32, st.tuples(st.integers(1, 3), st.integers(1, 90)), elements=st.sampled_from([0.1, 0.5, 1.0])
)
SPREAD = arrays(np.float32, st.tuples(st.integers(1, 3), st.integers(1, 90)), elements=st.floats(-5, 5, width=32))


def counted_by_hand(row: np.ndarray, edges: list[float]) -> list[int]:
    ends = [-inf, *edges, inf]
    return [sum(low <= float(score) < high for score in row) for low, high in pairwise(ends)]


@given(st.one_of(CROWDED, SPREAD), st.randoms(use_true_random=False))
def test_every_image_is_in_the_bin_that_the_definition_says(scores, random):
    summaries = summarise_scores(scores)
    for row, summary in zip(scores, summaries, strict=True):
        assert summary["counts"] == counted_by_hand(row, summary["edges"])
        assert sum(summary["counts"]) == len(row)
        assert len(summary["edges"]) <= 19
        assert set(summary["edges"]) <= set(row.tolist()), "edges are scores that occur"
        assert all(low < high for low, high in pairwise(summary["edges"]))
    order = random.sample(range(scores.shape[1]), scores.shape[1])
    assert summarise_scores(scores[:, order]) == summaries
    assert json.loads(json.dumps(summaries)) == summaries


@pytest.mark.parametrize("images", [20, 21, 39, 100, 1234])
def test_bins_hold_a_twentieth_each(images):
    scores = np.random.default_rng(0).permutation(images).astype(np.float32)[None]
    (summary,) = summarise_scores(scores)
    assert len(summary["counts"]) == 20
    assert {images // 20, -(-images // 20)} >= set(summary["counts"])


def test_saturated_scores_share_the_last_bin():
    scores = np.float32([[0.1] * 10 + [0.2] * 10 + [1.0] * 80])
    (summary,) = summarise_scores(scores)
    assert summary["edges"] == [float(np.float32(edge)) for edge in (0.1, 0.2, 1.0)]
    assert summary["counts"] == [0, 10, 10, 80]


def test_constant_scores_and_single_images_leave_room_below():
    assert summarise_scores(np.full((1, 50), 0.5, np.float32)) == [{"edges": [0.5], "counts": [0, 50]}]
    assert summarise_scores(np.full((1, 1), 0.5, np.float32)) == [{"edges": [0.5], "counts": [0, 1]}]
    assert bin_counts(np.float32([0.4, 0.5, 0.6]), [0.5]).tolist() == [1, 2]
    assert bin_counts(np.float32([0.4, 0.5, 0.6]), []).tolist() == [3]


def test_a_calibrated_policy_knows_its_distribution_bit_by_bit(scores, costs, tmp_path):
    policy = calibrate(scores, costs, budget=3e6).policy
    policy.save(tmp_path / "policy.json")
    stored = stored_distribution(load_policy(tmp_path / "policy.json"))
    assert stored == summarise_scores(scores.confidence)
    again = [bin_counts(row, of_exit["edges"]).tolist() for row, of_exit in zip(scores.confidence, stored, strict=True)]
    assert again == [of_exit["counts"] for of_exit in stored]


def test_a_policy_without_a_distribution_is_named():
    with pytest.raises(UserError, match="does not store the distribution of its calibration scores"):
        stored_distribution(ExitPolicy((0.5,)))


@pytest.mark.parametrize(
    "damage",
    [
        "none",
        {"edges": [0.5], "counts": [1, 2]},
        [{"edges": [0.5], "counts": [1, 2]}],
        [{"edges": [0.5], "counts": [1, 2]}, {"edges": [0.5], "counts": [1]}],
        [{"edges": [0.5], "counts": [1, 2]}, {"edges": [0.5, 0.5], "counts": [1, 2, 3]}],
        [{"edges": [0.5], "counts": [1, 2]}, {"edges": [nan], "counts": [1, 2]}],
        [{"edges": [0.5], "counts": [1, 2]}, {"edges": ["0.5"], "counts": [1, 2]}],
        [{"edges": [0.5], "counts": [1, 2]}, {"edges": [0.5], "counts": [-1, 2]}],
        [{"edges": [0.5], "counts": [1, 2]}, {"edges": [0.5], "counts": [0, 0]}],
        [{"edges": [0.5], "counts": [1, 2]}, {"edges": [0.5], "counts": [0.5, 2]}],
        [{"edges": [0.5], "counts": [1, 2]}, None],
    ],
)
def test_a_damaged_distribution_is_named(damage):
    with pytest.raises(UserError, match="score_distribution of the policy must be"):
        stored_distribution(ExitPolicy((0.5,), metadata={"score_distribution": damage}))
