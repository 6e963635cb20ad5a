"""The vectorised policy against the procedure of the papers, told image by image in Python."""

from math import floor, inf

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ranet.calibration import ExitPolicy, ExitScores, calibrate, evaluate_policy, geometric_policy, load_policy
from ranet.calibration.scores.exit_scores import SCORES
from ranet.calibration.solvers.geometric import geometric_quotas

# Few distinct values make ties; 1.0 is what saturated networks say.
FEW = st.sampled_from([0.25, 0.5, 0.75, 1.0])
MANY = st.floats(0.125, 1.0, width=32)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
RATIOS = st.one_of(st.integers(1, 39).map(lambda p: p / 20), st.floats(1e-3, 1e3))


@st.composite
def exit_scores(draw: st.DrawFn, images: int | None = None, exits: int | None = None) -> ExitScores:
    shape = (exits or draw(st.integers(1, 5)), images or draw(st.integers(1, 40)))
    confidence = draw(hnp.arrays(np.float32, shape, elements=draw(st.sampled_from([FEW, MANY]))))
    prediction = draw(hnp.arrays(np.int64, shape, elements=st.integers(0, 2)))
    return ExitScores(confidence, prediction, prediction < 2, np.zeros(shape[1], dtype=np.int64))


def thresholds_told_slowly(confidence: list[list[float]], quotas: list[int]) -> list[float]:
    """Section "Budgeted batch" of the evaluation protocol, word by word."""
    exits, images = len(confidence), len(confidence[0])
    gone = [False] * images
    thresholds = []
    for k in range(exits - 1):
        ranked = sorted((i for i in range(images) if not gone[i]), key=lambda i: -confidence[k][i])
        threshold = inf
        if 0 < quotas[k] <= len(ranked):
            threshold = confidence[k][ranked[quotas[k] - 1]]
        for i in range(images):
            if confidence[k][i] >= threshold:
                gone[i] = True
        thresholds.append(threshold)
    return thresholds


@given(scores=exit_scores(), ratio=RATIOS)
def test_thresholds_are_those_of_the_slow_procedure(scores, ratio):
    quotas = geometric_quotas([ratio], scores.num_exits, scores.num_images)[0].tolist()
    expected = thresholds_told_slowly(scores.confidence.tolist(), quotas)
    assert geometric_policy(scores, ratio).thresholds == tuple(expected)


@given(ratio=RATIOS, exits=st.integers(1, 10), images=st.integers(1, 5000))
def test_quotas_are_the_floors_of_the_geometric_shares(ratio, exits, images):
    quotas = geometric_quotas([ratio], exits, images)[0]
    total = sum(ratio**k for k in range(1, exits + 1))
    for k, quota in enumerate(quotas.tolist(), start=1):
        exact = images * ratio**k / total
        assert quota == floor(exact) or abs(exact - round(exact)) < 1e-9 * images
    assert quotas.sum() <= images


@given(data=st.data())
def test_outcomes_are_those_counted_image_by_image(data):
    validation = data.draw(exit_scores())
    test = data.draw(exit_scores(exits=validation.num_exits))
    costs = np.cumsum(data.draw(hnp.arrays(np.float64, validation.num_exits, elements=st.integers(1, 9)))).tolist()
    policy = geometric_policy(validation, data.draw(RATIOS))
    outcome = evaluate_policy(policy, test, costs)
    cost = right = 0
    for i in range(test.num_images):
        k = 0
        while k < test.num_exits - 1 and test.confidence[k, i] < policy.thresholds[k]:
            k += 1
        assert policy.exits(test)[i] == k
        cost += costs[k]
        right += int(test.prediction[k, i] == test.labels[i])
    assert abs(outcome.accuracy - right / test.num_images) < 1e-12
    assert abs(outcome.mean_cost - cost / test.num_images) < 1e-9
    assert abs(outcome.exit_shares.sum() - 1) < 1e-12


@given(scores=exit_scores(), fraction=st.floats(0.0, 1.2))
def test_calibration_never_exceeds_a_budget_that_can_be_reached(scores, fraction):
    costs = np.arange(1.0, scores.num_exits + 1)
    budget = costs[0] + fraction * (costs[-1] - costs[0])
    result = calibrate(scores, costs, budget)
    assert result.predicted_cost <= budget
    assert result.predicted_cost == evaluate_policy(result.policy, scores, costs).mean_cost


@given(data=st.data())
def test_a_policy_file_keeps_all_entries(data, tmp_path_factory):
    thresholds = data.draw(st.lists(st.floats(width=32, allow_nan=False), max_size=8))
    exits = len(thresholds) + 1
    positive = st.floats(0, exclude_min=True, allow_infinity=False)
    policy = ExitPolicy(
        tuple(thresholds),
        data.draw(st.sampled_from(SCORES)),
        data.draw(st.none() | st.lists(positive, min_size=exits, max_size=exits).map(tuple)),
        {"policy": data.draw(st.text()), "more": data.draw(JSON)},
    )
    path = tmp_path_factory.mktemp("policy") / "policy.json"
    policy.save(path)
    again = load_policy(path)
    assert again == policy
    assert repr(again) == repr(policy), "integers stay whole, and zeros keep their sign"
