import csv
import json
from itertools import product
from math import comb, log, prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2, mannwhitneyu, permutation_test

from ranet.calibration import ExitPolicy, ExitScores, calibrate, geometric_thresholds
from ranet.errors import UserError
from ranet.evaluation.policies.differences import mean_difference
from ranet.evaluation.policies.drift import measure_drift
from ranet.evaluation.policies.homogeneity import (
    holm,
    homogeneity,
    population_stability_index,
    superiority,
    total_variation,
)
from ranet.evaluation.reports.drift import drift_document
from tests.calibration.promises import promise

COUNTS = st.lists(st.tuples(st.integers(20, 400), st.integers(20, 400)), min_size=2, max_size=8)


@given(COUNTS)
def test_statistics_are_those_of_their_definitions(pairs):
    then, now = np.array(pairs).T
    p, q = then / then.sum(), now / now.sum()
    pooled = (then + now) / (then.sum() + now.sum())
    statistic = sum(
        (seen - images * share) ** 2 / (images * share)
        for counts, images in ((then, then.sum()), (now, now.sum()))
        for seen, share in zip(counts, pooled, strict=True)
    )
    result = homogeneity(then, now)
    assert result.statistic == pytest.approx(statistic, abs=1e-9)
    if np.outer([then.sum(), now.sum()], pooled).min() >= 5:
        assert result.p_value == pytest.approx(chi2.sf(statistic, len(pairs) - 1))
    assert total_variation(then, now) == pytest.approx(sum(max(0.0, b - a) for a, b in zip(p, q, strict=True)))
    smoothed = [(counts + 0.5) / (counts.sum() + len(pairs) / 2) for counts in (then, now)]
    index = sum((b - a) * log(b / a) for a, b in zip(*smoothed, strict=True))
    assert population_stability_index(then, now) == pytest.approx(index)
    bins = np.arange(len(pairs))
    above = mannwhitneyu(bins.repeat(now), bins.repeat(then)).statistic / (then.sum() * now.sum())
    assert superiority(then, now) == pytest.approx(above)


@pytest.mark.parametrize(("then", "now"), [([7, 3, 40, 10], [4, 1, 2, 0]), ([30, 2, 0], [6, 0, 1]), ([3, 2], [1, 0])])
def test_few_images_are_tested_exactly(then, now):
    """Against all ways to choose the images seen out of all images, counted."""
    together = np.add(then, now)
    expected = together * sum(now) / together.sum()
    other = together - expected
    weights, statistics = [], []
    for drawn in product(*(range(min(total, sum(now)) + 1) for total in together)):
        if sum(drawn) == sum(now):
            weights.append(prod(comb(int(total), x) for total, x in zip(together, drawn, strict=True)))
            statistics.append(sum((np.array(drawn) - expected) ** 2 * (1 / expected + 1 / other)))
    result = homogeneity(then, now)
    seen = sum((np.array(now) - expected) ** 2 * (1 / expected + 1 / other))
    assert result.statistic == pytest.approx(seen)
    as_large = np.array(statistics) >= seen - 1e-9
    assert result.p_value == pytest.approx(np.array(weights)[as_large].sum() / sum(weights), abs=0.02)


@pytest.mark.parametrize(("then", "now"), [([100, 0], [30, 0]), ([5000], [300])])
def test_with_one_bin_there_is_nothing_to_test(then, now):
    result = homogeneity(then, now)
    assert (result.degrees, result.p_value) == (0, 1.0)


def test_disjoint_bins_are_seen():
    assert homogeneity([500, 0], [0, 40]).p_value == 1e-4, "no draw of 9,999 was like this"
    assert population_stability_index([500, 0], [0, 40]) > 1
    assert superiority([500, 0], [0, 40]) == 1


def test_holm_is_the_closed_test_of_bonferroni():
    """A hypothesis is rejected if each intersection that it belongs to is, by Bonferroni: all intersections tried."""
    values = [0.004, 0.03, 0.02, 0.4]
    for i, corrected in enumerate(holm(values)):
        intersections = [chosen for chosen in product([False, True], repeat=4) if chosen[i]]
        bonferroni = [
            sum(chosen) * min(v for v, inside in zip(values, chosen, strict=True) if inside) for chosen in intersections
        ]
        assert corrected == pytest.approx(min(1.0, max(bonferroni)))


@pytest.mark.parametrize(
    ("then", "now"), [([30, 20, 10], [5, 5, 10]), ([400, 500, 100], [210, 230, 60]), ([8, 2], [0, 2])]
)
def test_chance_is_that_of_a_permutation_test(then, now):
    costs = np.array([1.0, 2.5, 9.0])[: len(then)]
    result = mean_difference(then, now, costs)
    samples = (costs.repeat(now), costs.repeat(then))
    expected = permutation_test(
        samples, lambda a, b, axis: a.mean(axis=axis) - b.mean(axis=axis), n_resamples=20_000, vectorized=True, rng=0
    )
    assert result.value == pytest.approx(expected.statistic)
    as_large = np.abs(expected.null_distribution) >= abs(expected.statistic) - 1e-9
    assert result.p_value == pytest.approx(as_large.mean(), abs=0.02)
    assert result.significant == (result.interval[0] * result.interval[1] > 0)
    assert result.promised == pytest.approx(samples[1].mean())
    assert result.in_percent.value == pytest.approx(100 * result.value / samples[1].mean())


def test_a_large_difference_has_the_interval_of_two_normal_means():
    then, now, costs = np.array([4000, 6000]), np.array([2500, 2500]), np.array([1.0, 3.0])
    result = mean_difference(then, now, costs)
    both = costs.repeat(then + now)
    half = 1.96 * both.std() * np.sqrt(1 / then.sum() + 1 / now.sum())
    assert result.interval == pytest.approx((-0.2 - half, -0.2 + half), abs=0.004)
    assert result.significant
    assert result.p_value < 0.001


@pytest.mark.parametrize("images", [1, 5, 12])
def test_a_few_images_at_one_exit_are_no_proof(images):
    """Two of three images left at the last exit, so that a few all do is chance: a bootstrap of them would not know."""
    result = mean_difference([1000, 1000, 4000 if images < 12 else 40_000], [0, 0, images], [1.0, 2.0, 4.0])
    assert result.value > 0
    assert not result.significant


def calibrated(scores: ExitScores, costs: np.ndarray, ratio: float = 1.3, **options) -> ExitPolicy:
    thresholds = geometric_thresholds(scores.confidence, [ratio])[0]
    return promise(thresholds, scores, costs, family="geometric", unit="macs", **options).policy


@pytest.mark.slow
def test_without_drift_p_values_are_uniform_and_alarms_are_rare(make_scored):
    """One population split at random in two, again and again; the thresholds are tuned on one of the parts."""
    population = make_scored(images=3000).validation
    costs = np.array([1e6, 2e6, 4e6, 9e6])
    rng, rounds = np.random.default_rng(1), 300
    seen = []
    for _ in range(rounds):
        order = rng.permutation(population.num_images)
        policy = calibrated(population.subset(order[:2000]), costs)
        report = measure_drift(policy, population.subset(order[2000:]))
        tests = [report.share_test.p_value, *(drift.test.p_value for drift in report.scores)]
        seen.append(
            [*tests, report.cost_difference.p_value, not report.cost_difference.significant, not report.drifted]
        )
    values = np.array(seen, dtype=float)
    rejected = (values[:, :6] < 0.05).mean(axis=0)
    assert (rejected > 0.02).all()
    assert (rejected < 0.08).all()
    assert (np.abs((values[:, :6] < 0.5).mean(axis=0) - 0.5) < 0.1).all()
    assert 0.02 < 1 - values[:, 6].mean() < 0.08, "95 % intervals of the cost exclude 0 one time in twenty"
    assert 1 - values[:, 7].mean() < 0.03 + 0.02


@pytest.fixture(scope="module")
def crowd(make_scored):
    return make_scored(images=2000, seed=3)


def less_sure(scores: ExitScores, by: float) -> ExitScores:
    """Move the confidences of `scores` towards chance, and leave out the labels."""
    return ExitScores(0.1 + (scores.confidence - 0.1) * by, scores.prediction)


def test_networks_that_become_less_sure_are_caught(crowd):
    policy = calibrate(crowd.validation, crowd.costs, budget=10e6, unit="macs").policy
    report = measure_drift(policy, less_sure(crowd.test, 0.9))
    assert report.drifted
    assert report.shares_shifted
    assert report.drifted_exits == (0, 1, 2, 3)
    assert all(drift.superiority < 0.5 for drift in report.scores)
    exits = policy.exits(less_sure(crowd.test, 0.9))
    cost = np.mean([crowd.costs[k] for k in exits])
    assert report.cost == pytest.approx(cost)
    assert report.over_budget_percent == pytest.approx(100 * (cost - 10e6) / 10e6)
    low, high = report.cost_difference.interval
    assert 0 < low < cost - policy.metadata["predicted"]["cost"] < high
    change = 100 * (cost / policy.metadata["predicted"]["cost"] - 1)
    assert f"images cost {change:.1f} % more than promised and" in report.verdict
    assert "less sure" in report.verdict
    assert "at all exits" in report.verdict


def test_networks_that_become_surer_are_caught(crowd):
    policy = calibrate(crowd.validation, crowd.costs, budget=10e6).policy
    surer = ExitScores(np.minimum(crowd.test.confidence * 1.3, 1), crowd.test.prediction)
    report = measure_drift(policy, surer)
    assert all(drift.superiority > 0.5 for drift in report.scores)
    assert "% less than promised" in report.verdict
    assert "budget" not in report.verdict.split("images cost")[1]


def test_drift_at_one_exit_is_told_from_drift_at_all(crowd):
    policy = calibrate(crowd.validation, crowd.costs, budget=10e6).policy
    confidence = crowd.test.confidence.copy()
    confidence[3] *= 0.8  # the last exit: all images leave where they left before
    report = measure_drift(policy, ExitScores(confidence, crowd.test.prediction))
    assert report.drifted_exits == (3,)
    assert not report.shares_shifted
    assert report.verdict.startswith("Drift: exit shares are as promised, up to chance; scores have drifted")
    assert "at exit 4 (less sure" in report.verdict
    assert report.verdict.endswith("they cost what was promised, up to chance.")


def test_images_like_those_of_calibration_are_no_drift(crowd):
    policy = calibrate(crowd.validation, crowd.costs, budget=10e6).policy
    report = measure_drift(policy, crowd.test)
    assert not report.drifted
    assert report.verdict == "No drift seen: images (2,000) are like those of calibration, up to chance."
    same = measure_drift(policy, crowd.validation)
    assert same.share_test.statistic == pytest.approx(0)
    assert same.share_distance == 0
    assert [drift.stability_index for drift in same.scores] == [0, 0, 0, 0]
    assert [drift.superiority for drift in same.scores] == pytest.approx([0.5] * 4)
    assert same.cost_difference.value == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("images", [1, 3])
def test_a_few_images_show_only_large_drift(images, crowd):
    policy = calibrate(crowd.validation, crowd.costs, budget=10e6).policy
    few = crowd.test.subset(slice(0, images))
    verdict = measure_drift(policy, few).verdict
    assert verdict.startswith(f"No drift seen: images ({images}) are like")
    assert verdict.endswith("up to chance; so few could only show a large one.")
    assert measure_drift(policy, less_sure(few, 0.01)).drifted == (images > 1), "one in twenty is as unsure as that"


@pytest.mark.parametrize("score", ["confidence", "margin", "entropy", "patience"])
@pytest.mark.parametrize("temperatures", [None, [0.5, 1.5, 2.0]])
def test_every_score_and_temperature(score, temperatures):
    rng = np.random.default_rng(6)
    logits = rng.normal(size=(3, 2000, 10)) * 2
    then, now, dimmed = (
        ExitScores.from_logits(array, temperatures=temperatures)
        for array in (logits[:, :1000], logits[:, 1000:], logits[:, 1000:] * 0.6)
    )
    thresholds = np.median(then.score(score)[:-1], axis=1)
    policy = promise(thresholds, then, np.array([1.0, 2.0, 4.0]), family="median", score=score).policy
    assert not measure_drift(policy, now).drifted
    assert measure_drift(policy, dimmed).drifted_exits == (0, 1, 2)


def test_saturated_and_constant_scores_are_measured():
    then = ExitScores(np.ones((2, 500)))
    policy = promise(np.float32([1.0]), then, np.array([1.0, 2.0]), family="hand").policy
    assert not measure_drift(policy, then).drifted
    report = measure_drift(policy, ExitScores(np.full((2, 500), 0.9)))
    assert report.drifted_exits == (0, 1)
    assert (report.cost_difference.promised, report.cost) == (1.0, 2.0)
    assert "images cost 100.0 % more than promised" in report.verdict


def test_one_exit_has_scores_that_drift_too():
    rng = np.random.default_rng(0)
    policy = promise((), ExitScores(rng.uniform(size=(1, 1000))), np.array([3.0]), family="only").policy
    report = measure_drift(policy, ExitScores(rng.uniform(size=(1, 1000)) ** 2))
    assert report.share_test.degrees == 0
    assert report.drifted_exits == (0,)
    assert report.cost_difference.value == 0


def test_the_report_is_printed_and_written(crowd, tmp_path):
    policy = calibrate(crowd.validation, crowd.costs, budget=10e6, unit="macs").policy
    report = measure_drift(policy, less_sure(crowd.test, 0.8))
    document = drift_document(report)
    assert f"| {report.cost / 1e6:#.4g} |" in document.page()
    assert "< 0.001" in document.page()
    assert f"{report.over_budget_percent:+.2f} % against the budget" in report.notes[1]

    csv_file, json_file = document.write(tmp_path)
    with csv_file.open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["share_percent"]) / 100 for row in rows] == pytest.approx(report.shares.tolist())
    assert [float(row["stability_index"]) for row in rows] == pytest.approx([d.stability_index for d in report.scores])
    content = json.loads(json_file.read_text())
    assert content["verdict"] == report.verdict
    assert content["cost"]["seen"] == report.cost
    assert content["exit_shares"]["test"]["p_value"] == report.share_test.p_value
    assert content["cost"]["promised_interval"] == policy.metadata["predicted"]["cost_interval"]


def test_a_policy_without_budget_or_interval_is_measured(crowd, tmp_path):
    policy = calibrated(crowd.validation, crowd.costs)
    del policy.metadata["predicted"]["cost_interval"]
    report = measure_drift(policy, less_sure(crowd.test, 0.9))
    assert np.isnan(report.over_budget_percent)
    assert "budget" not in report.verdict
    document = drift_document(report)
    assert ["95 % from", "-"] in [cells[:2] for cells in document.sheets[0].cells]
    assert json.loads(document.write(tmp_path)[1].read_text())["budget"] is None


def test_mistakes_are_named(crowd):
    policy = calibrated(crowd.validation, crowd.costs)
    with pytest.raises(UserError, match="does not store the distribution of its calibration scores"):
        measure_drift(ExitPolicy(policy.thresholds), crowd.test)
    with pytest.raises(UserError, match="how many calibration images left at each exit"):
        measure_drift(ExitPolicy(policy.thresholds, metadata={**policy.metadata, "predicted": None}), crowd.test)
    with pytest.raises(UserError, match="give the cost of each exit"):
        measure_drift(ExitPolicy(policy.thresholds, metadata={**policy.metadata, "cost_per_exit": None}), crowd.test)
    with pytest.raises(UserError, match="for 4 exits and the scores have 2"):
        measure_drift(policy, ExitScores(crowd.test.confidence[:2]))
    hot = ExitScores(crowd.test.confidence, temperatures=[2.0] * 4)
    with pytest.raises(UserError, match="different temperatures"):
        measure_drift(policy, hot)
