from math import inf

import numpy as np
import pytest

from ranet.calibration import ExitScores, geometric_policy, geometric_thresholds
from ranet.calibration.solvers.geometric import geometric_quotas
from ranet.errors import UserError


def test_quotas_are_whole_where_the_shares_are():
    assert (49 * (1 / 49)) < 1, "the trap: in floating point a forty-ninth of 49 is less than one"
    assert geometric_quotas([1.0], num_exits=49, num_images=49).tolist() == [[1] * 49]
    assert geometric_quotas([0.5], num_exits=2, num_images=3).tolist() == [[2, 1]]


@pytest.mark.parametrize("ratio", [1e-300, 1e300])
def test_extreme_ratios_do_not_overflow(ratio):
    quotas = geometric_quotas([ratio], num_exits=10, num_images=100)[0]
    assert quotas.tolist() == ([100, *[0] * 9] if ratio < 1 else [*[0] * 9, 100])


def test_shares_on_validation_are_the_quotas_where_no_scores_are_equal(scores):
    policy = geometric_policy(scores, ratio=0.65)
    quotas = geometric_quotas([0.65], 4, scores.num_images)[0]
    left = np.bincount(policy.exits(scores), minlength=4)
    assert left[:-1].tolist() == quotas[:-1].tolist()
    assert policy.metadata == {"policy": "geometric", "ratio": 0.65}


def test_ties_leave_together_and_may_starve_the_next_exit():
    """Nine of ten images share one confidence: all nine leave at exit 1, and one is too few for the quota of exit 2."""
    confidence = np.float32([[1.0] * 9 + [0.3], [0.9] * 10, [0.9] * 10])
    assert geometric_thresholds(confidence, [1.0]).tolist() == [[1.0, inf]]


def test_no_image_leaves_where_the_quota_is_below_one_image():
    confidence = np.random.default_rng(0).uniform(size=(3, 8)).astype(np.float32)
    thresholds = geometric_thresholds(confidence, [20.0])[0]
    assert thresholds.tolist() == [inf, inf]


@pytest.mark.parametrize("ratio", [0.0, -1.0, inf, float("nan")])
def test_ratios_that_are_no_positive_number_are_named(ratio):
    with pytest.raises(UserError, match="positive number"):
        geometric_policy(ExitScores.from_logits(np.zeros((2, 3, 4)), np.zeros(3)), ratio)
