from dataclasses import dataclass
from functools import partial
from math import inf, isnan, sqrt
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ranet.calibration import Calibration, ExitPolicy, ExitScores, load_policy
from ranet.calibration.bounds import (
    binomial_p_value,
    clopper_pearson_lower,
    clopper_pearson_upper,
    hoeffding_bentkus_p_value,
)
from ranet.calibration.guarantees.risk import calibrate_risk
from ranet.calibration.guarantees.threshold_walk import threshold_grid
from ranet.calibration.policies.exit_policy import first_exits
from ranet.calibration.policies.intervals import mean_interval
from ranet.errors import UserError

DELTA = 0.1
REPEATED = pytest.mark.parametrize("repetitions", [300, pytest.param(1000, marks=pytest.mark.slow)])


def most(share: float, repetitions: int) -> float:
    """The share of violations that chance explains: three standard errors above the true one."""
    return share + 3 * sqrt(share * (1 - share) / repetitions)


@dataclass(frozen=True)
class Population:
    """Images whose scores are uniform and independent at each of three exits, so that risks are known in closed form.

    Given a score u, an early exit answers other than the last with probability d (1 - u), where the last is right with
    probability q, and is right instead of the last with probability g (1 - u), where the last is wrong.
    """

    lost: float = 0.4
    gained: float = 0.1
    right: float = 0.7

    def draw(self, images: int, rng: np.random.Generator) -> ExitScores:
        u = rng.random((3, images)).astype(np.float32)
        last_right = rng.random(images) < self.right
        chance = np.where(last_right, self.lost / self.right, self.gained / (1 - self.right)) * (1 - u)
        differs = rng.random((3, images)) < chance
        differs[-1] = False
        # The label is class 0; where the last exit is wrong it says 1, and what differs from that is right.
        last = np.where(last_right, 0, 1)
        return ExitScores(u, np.where(differs, 1 - last, last), labels=np.zeros(images, int))

    def risk(self, risk: str, threshold: float) -> float:
        """P(leave at exit 1) times what that costs, and the same of exit 2, which is asked below the threshold."""
        rate = self.lost - self.gained if risk == "accuracy" else self.lost + self.gained
        t = min(threshold, 1.0)
        return (1 + t) * rate * (1 - t) ** 2 / 2

    def cost(self, threshold: float) -> float:
        t = min(threshold, 1.0)
        return 1 + 2 * t + 3 * t**2


COSTS = [1.0, 3.0, 6.0]


@pytest.fixture
def many_times(monkeypatch) -> None:
    """The intervals of what is predicted take most of the time, and these tests do not look at them."""
    monkeypatch.setattr("ranet.calibration.policies.intervals.mean_interval", partial(mean_interval, draws=2))


def net_loss_passes(losses: np.ndarray, gains: np.ndarray, images: int, eps: float, delta: float) -> np.ndarray:
    """Whether the difference of the bounds of the two rates is within eps."""
    upper = clopper_pearson_upper(losses, images, delta / 2)
    return upper - clopper_pearson_lower(gains, images, delta / 2) <= eps


def counts_of(scores: ExitScores, thresholds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(T,) losses and gains in accuracy of thresholds, by brute force."""
    u, right = scores.confidence, scores.correct
    first = u[0] >= thresholds[:, None]
    second = ~first & (u[1] >= thresholds[:, None])
    lost = right[2] & ~right[:2]
    gained = ~right[2] & right[:2]
    return tuple((first & marked[0] | second & marked[1]).sum(axis=1) for marked in (lost, gained))


@REPEATED
@pytest.mark.parametrize(("risk", "eps"), [("accuracy", 0.05), ("disagreement", 0.05)])
def test_the_risk_is_within_eps_with_the_probability_promised(risk, eps, repetitions, many_times):
    """Many calibration sets of 500 images; the true risk of the returned threshold is known."""
    population, rng = Population(), np.random.default_rng(0)
    results = [calibrate_risk(population.draw(500, rng), COSTS, eps, DELTA, risk=risk) for _ in range(repetitions)]
    violations = np.mean([population.risk(risk, result.threshold) > eps for result in results])
    assert violations <= most(DELTA, repetitions)
    assert all(result.p_value <= DELTA for result in results)
    if risk == "disagreement":
        assert violations >= DELTA / 4, "an exact bound is not far from its promise"
    # A larger eps is used, not left lying: on average more than a third of it.
    assert np.mean([population.risk(risk, result.threshold) for result in results]) > eps / 3


def test_the_population_is_what_the_closed_form_says():
    population = Population()
    scores = population.draw(400_000, np.random.default_rng(1))
    for threshold in (0.3, 0.7, 0.9):
        left_at = first_exits(scores.confidence, [threshold, threshold])
        images = np.arange(400_000)
        lost = scores.correct[-1].mean() - scores.correct[left_at, images].mean()
        other = (scores.prediction[left_at, images] != scores.prediction[-1]).mean()
        assert lost == pytest.approx(population.risk("accuracy", threshold), abs=0.003)
        assert other == pytest.approx(population.risk("disagreement", threshold), abs=0.003)
        assert np.take(COSTS, left_at).mean() == pytest.approx(population.cost(threshold), abs=0.02)


def test_it_is_cheaper_than_correcting_for_every_step(many_times):
    population, rng, eps = Population(), np.random.default_rng(2), 0.05
    grid = threshold_grid("confidence", 3)
    cost, bonferroni_cost = [], []
    for _ in range(60):
        scores = population.draw(500, rng)
        cost.append(population.cost(calibrate_risk(scores, COSTS, eps, DELTA).threshold))
        passed = net_loss_passes(*counts_of(scores, grid), 500, eps, DELTA / len(grid))
        passed[0] = True
        bonferroni_cost.append(population.cost(float(grid[np.flatnonzero(passed)[-1]])))
    assert (np.array(cost) <= bonferroni_cost).mean() > 0.95
    assert np.mean(cost) < 0.9 * np.mean(bonferroni_cost)


@pytest.fixture(scope="module")
def real(shared: Path) -> tuple[ExitScores, list[float]]:
    """A population of 15,000 images scored by a trained MSDNet."""
    with np.load(shared / "fixtures" / "msdnet_cifar10_scores.npz") as file:
        parts = [ExitScores.from_logits(file[f"{name}_logits"], file[f"{name}_labels"]) for name in ("val", "test")]
        return ExitScores.concatenate(parts), file["paper_ops"].tolist()


def true_risk(scores: ExitScores, result: Calibration, risk: str) -> float:
    left_at, images = result.policy.exits(scores), np.arange(scores.num_images)
    if risk == "accuracy":
        return float(scores.correct[-1].mean() - scores.correct[left_at, images].mean())
    return float((scores.prediction[left_at, images] != scores.prediction[-1]).mean())


@REPEATED
@pytest.mark.parametrize("risk", ["accuracy", "disagreement"])
def test_resampled_real_scores_keep_the_promise(risk, repetitions, real, many_times):
    population, costs = real
    rng, eps = np.random.default_rng(3), 0.01
    violations, savings = [], []
    for _ in range(repetitions):
        drawn = population.subset(rng.integers(population.num_images, size=2000))
        result = calibrate_risk(drawn, costs, eps, DELTA, risk=risk)
        violations.append(true_risk(population, result, risk) > eps)
        savings.append(result.predicted_cost / costs[-1])
    assert np.mean(violations) <= most(DELTA, repetitions)
    assert np.mean(savings) < 0.75


@REPEATED
@pytest.mark.parametrize("risk", ["accuracy", "disagreement"])
def test_conformal_control_keeps_the_risk_in_expectation(risk, repetitions, many_times):
    """The risk of monotone losses, known from many images, is eps on average, and at most that."""
    population, rng, eps = Population(lost=0.35, gained=0.15), np.random.default_rng(4), 0.05
    thresholds = [
        calibrate_risk(population.draw(200, rng), COSTS, eps, None, risk=risk).threshold for _ in range(repetitions)
    ]
    many = population.draw(100_000, rng)
    loss = many.correct[-1] & ~many.correct if risk == "accuracy" else many.prediction != many.prediction[-1]
    # The first threshold, from above, at which the image leaves where it has a loss: exit 2's score if it is above
    # exit 1's, or else exit 1's.
    u = many.confidence
    second = np.where(loss[1] & (u[1] > u[0]), u[1], -1)
    first = np.sort(np.maximum(second, np.where(loss[0], u[0], -1)))
    risks = 1 - np.searchsorted(first, np.float32(thresholds)) / len(first)
    standard_error = risks.std() / sqrt(repetitions)
    assert risks.mean() <= eps + 3 * standard_error
    assert risks.mean() >= eps - 1 / 100, "tight up to 2 / (n + 1), but for the grid"
    assert np.mean([population.risk(risk, threshold) for threshold in thresholds]) <= risks.mean() + 0.003


@given(
    seed=st.integers(0, 2**32 - 1),
    risk=st.sampled_from(["accuracy", "disagreement"]),
    score=st.sampled_from(["confidence", "margin", "entropy", "patience"]),
    delta=st.sampled_from([0.1, 0.3, None]),
    eps=st.sampled_from([0.04, 0.1, 0.3, 0.9]),
    general=st.booleans(),
)
@example(seed=0, risk="accuracy", score="confidence", delta=0.1, eps=0.3, general=True)
@example(seed=0, risk="disagreement", score="confidence", delta=0.1, eps=0.3, general=True)
@pytest.mark.slow
def test_the_threshold_is_the_last_that_passes_one_by_one(seed, risk, score, delta, eps, general):
    general = general and delta is not None and eps > 0.2
    bound = "hoeffding_bentkus" if general else "binomial"
    rng = np.random.default_rng(seed)
    images, labels = 120, rng.integers(4, size=120)
    logits = rng.normal(size=(3, images, 4)) * 2
    logits[:, np.arange(images), labels] += np.array([1.0, 3.0, 5.0])[:, None] * rng.random(images)
    scores = ExitScores.from_logits(logits.round(1), labels)
    expected, ever = inf, np.zeros(images, dtype=bool)
    for threshold in threshold_grid(score, 3).tolist():
        left_at = ExitPolicy((threshold, threshold), score).exits(scores)
        loss = scores.prediction[left_at, np.arange(images)] != scores.prediction[-1]
        gain = np.zeros(images, dtype=bool)
        if risk == "accuracy":
            right = scores.correct[left_at, np.arange(images)]
            loss, gain = scores.correct[-1] & ~right, ~scores.correct[-1] & right
        ever |= loss
        if delta is None:
            passes = images / (images + 1) * ever.mean() + 1 / (images + 1) <= eps
        elif general:
            low, high = (-1, 1) if risk == "accuracy" else (0, 1)
            mean = (loss.mean() - gain.mean() - low) / (high - low)
            passes = hoeffding_bentkus_p_value(mean, images, (eps - low) / (high - low)) <= delta
        elif risk == "accuracy":
            passes = net_loss_passes(loss.sum(), gain.sum(), images, eps, delta)
        else:
            passes = binomial_p_value(loss.sum(), images, eps) <= delta
        if not passes:
            break
        expected = threshold
    result = calibrate_risk(scores, COSTS, eps, delta, risk=risk, score=score, bound=bound)
    assert result.threshold == expected
    assert result.policy.thresholds == (expected, expected)
    order = rng.permutation(images)
    again = calibrate_risk(scores.subset(order), COSTS, eps, delta, risk=risk, score=score, bound=bound)
    assert (again.policy, again.risk) == (result.policy, result.risk)
    assert again.p_value == result.p_value or delta is None


def test_the_result_says_what_was_promised_and_seen(scores, costs, tmp_path):
    result = calibrate_risk(scores, costs, 0.1, 0.2, unit="macs", metadata={"network": {"name": "msdnet_tiny"}})
    assert result.policy.thresholds == (result.threshold,) * 3
    assert result.risk == pytest.approx(true_risk(scores, result, "accuracy"))
    assert result.risk < 0.1
    assert result.p_value <= 0.2
    assert costs[0] <= result.predicted_cost < costs[-1]
    assert result.interval[0] <= result.predicted_accuracy <= result.interval[1]
    assert result.notices == ()
    result.policy.save(tmp_path / "policy.json")
    metadata = load_policy(tmp_path / "policy.json").metadata
    assert metadata["policy"] == "risk"
    assert metadata["threshold"] == result.threshold
    assert metadata["network"] == {"name": "msdnet_tiny"}
    assert metadata["guarantee"] == {
        "risk": "accuracy",
        "eps": 0.1,
        "delta": 0.2,
        "bound": "binomial",
        "images": 400,
        "empirical_risk": result.risk,
    }


def test_hoeffding_bentkus_asks_for_more(scores, costs):
    exact = calibrate_risk(scores, costs, 0.15, risk="disagreement")
    general = calibrate_risk(scores, costs, 0.15, risk="disagreement", bound="hoeffding_bentkus")
    assert general.threshold > exact.threshold
    assert general.predicted_cost > exact.predicted_cost
    assert general.policy.metadata["guarantee"]["bound"] == "hoeffding_bentkus"


def test_in_expectation_there_is_no_p_value(scores, costs):
    result = calibrate_risk(scores, costs, 0.1, None)
    assert isnan(result.p_value)
    assert result.policy.metadata["guarantee"]["bound"] == "conformal"
    assert result.policy.metadata["guarantee"]["delta"] is None


def test_where_no_threshold_passes_all_images_go_to_the_last_exit_with_a_notice():
    """All images are as sure as can be at the first exit, and a quarter of them wrong there."""
    right = np.stack([np.arange(200) < 150, np.ones(200, dtype=bool)])
    result = calibrate_risk(ExitScores(np.ones((2, 200)), correct=right), [1.0, 2.0], eps=0.02)
    assert result.threshold == inf
    assert result.exit_shares.tolist() == [0, 1]
    assert (result.risk, result.predicted_accuracy) == (0, 1)
    (notice,) = result.notices
    assert "200 images cannot prove that a cheaper policy keeps the accuracy risk at eps=0.02 and delta=0.1" in notice


def test_scores_without_labels_are_enough_for_the_disagreement(scores, costs):
    unlabelled = ExitScores(scores.confidence, scores.prediction)
    result = calibrate_risk(unlabelled, costs, 0.1, risk="disagreement")
    assert result.policy.thresholds == calibrate_risk(scores, costs, 0.1, risk="disagreement").policy.thresholds
    assert isnan(result.predicted_accuracy)
    with pytest.raises(UserError, match=r"needs labels.*disagreement"):
        calibrate_risk(unlabelled, costs, 0.1)
    correct_alone = ExitScores(scores.confidence, correct=scores.correct)
    assert calibrate_risk(correct_alone, costs, 0.1).policy == calibrate_risk(scores, costs, 0.1).policy
    with pytest.raises(UserError, match="needs the predicted class"):
        calibrate_risk(correct_alone, costs, 0.1, risk="disagreement")


def test_one_exit_and_one_image():
    one_exit = ExitScores(np.full((1, 400), 0.5), correct=np.ones((1, 400)))
    result = calibrate_risk(one_exit, [2.0], eps=0.01)
    assert (result.policy.thresholds, result.risk, result.predicted_cost, result.notices) == ((), 0, 2.0, ())
    one_image = ExitScores([[0.9], [0.9]], [[1], [1]], labels=[1])
    result = calibrate_risk(one_image, [1.0, 2.0], eps=0.96)
    assert (result.policy.thresholds, result.predicted_cost) == ((0.0,), 1.0)
    with pytest.raises(UserError, match=r"1 image and delta=0\.1 the smallest eps is 0\.951: .* at least 299 images"):
        calibrate_risk(one_image, [1.0, 2.0], eps=0.01)
    with pytest.raises(UserError, match="1 image and delta=1e-12 no eps is possible"):
        calibrate_risk(one_image, [1.0, 2.0], eps=0.01, delta=1e-12)


@pytest.mark.parametrize("images", [2, 10, 100])
@pytest.mark.parametrize(
    ("delta", "risk", "bound"),
    [
        (0.1, "accuracy", "binomial"),
        (0.1, "disagreement", "binomial"),
        (0.1, "accuracy", "hoeffding_bentkus"),
        (0.01, "disagreement", "hoeffding_bentkus"),
        (None, "accuracy", "binomial"),
        (None, "disagreement", "binomial"),
    ],
)
def test_too_few_images_name_the_smallest_eps_and_it_is_accepted(delta, risk, bound, images, scores, costs):
    few = scores.subset(slice(images))
    expected = {
        "accuracy": 1 / (images + 1) if delta is None else 1 - (delta / 2) ** (1 / images),
        "disagreement": 1 / (images + 1) if delta is None else 1 - delta ** (1 / images),
    }[risk]
    with pytest.raises(UserError, match="smallest eps is") as caught:
        calibrate_risk(few, costs, 1e-3, delta, risk=risk, bound=bound)
    words = str(caught.value)
    smallest = float(words.split("smallest eps is ")[1].split(":")[0])
    if bound == "binomial" or risk == "disagreement":
        assert expected <= smallest <= 1.011 * expected
    calibrate_risk(few, costs, smallest, delta, risk=risk, bound=bound)
    with pytest.raises(UserError, match="smallest eps is"):
        calibrate_risk(few, costs, 0.98 * smallest if images > 2 else smallest - 0.02, delta, risk=risk, bound=bound)
    # As many images as it asks for are enough, and one less is not.
    needed = int(words.split("at least ")[1].split(" ")[0].replace(",", ""))
    if bound == "binomial":
        many = scores.subset(np.resize(np.arange(scores.num_images), needed))
        calibrate_risk(many, costs, 1e-3, delta, risk=risk)
        with pytest.raises(UserError, match=f"at least {needed:,} images"):
            calibrate_risk(many.subset(slice(1, None)), costs, 1e-3, delta, risk=risk)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"eps": 0.0}, "eps must lie between 0 and 1, not 0.0"),
        ({"eps": 1.0}, "eps must lie between 0 and 1"),
        ({"eps": float("nan")}, "eps must lie between 0 and 1, not nan"),
        ({"delta": 0.0}, "delta must lie between 0 and 1, not 0.0"),
        ({"delta": 1.0}, "delta must lie between 0 and 1"),
        ({"risk": "acuracy"}, "Unknown risk 'acuracy'; did you mean accuracy"),
        ({"bound": "binomal"}, "Unknown bound 'binomal'; did you mean binomial"),
        ({"bound": "hoeffding_bentkus", "delta": None}, "bound=hoeffding_bentkus needs a delta"),
        ({"score": "certainty"}, "not 'certainty'"),
        ({"cost_per_exit": [1.0, 2.0]}, "each of the 4 exits"),
    ],
)
def test_mistakes_are_named(options, message, scores, costs):
    with pytest.raises(UserError, match=message):
        calibrate_risk(**{"scores": scores, "cost_per_exit": costs, "eps": 0.1, **options})
