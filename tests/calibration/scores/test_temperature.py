"""Temperatures that are known, and what the best one must satisfy."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from torch.nn.functional import cross_entropy

from ranet.calibration import ExitScores
from ranet.calibration.scores.temperature import HIGHEST, LOWEST, fit_temperatures
from ranet.errors import UserError


def drawn(temperature: float, images: int = 20_000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn from p, and logits T log p, of which softmax(logits / T) is p: (N, C), (N,)."""
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet([0.3] * 10, size=images)
    labels = (probabilities.cumsum(axis=1) < rng.uniform(size=(images, 1))).sum(axis=1).clip(max=9)
    return temperature * np.log(probabilities.clip(1e-30)), labels


def loss(logits: np.ndarray, labels: np.ndarray, temperature: float) -> float:
    """The mean negative log-likelihood of one exit, by PyTorch."""
    return float(cross_entropy(torch.as_tensor(logits).double() / temperature, torch.as_tensor(labels)))


def noisy(exits: int, images: int, classes: int, scale: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=images)
    logits = rng.normal(size=(exits, images, classes)) * scale
    logits[:, np.arange(images), labels] += scale
    return logits.astype(np.float32), labels


problems = st.builds(
    noisy,
    exits=st.integers(1, 3),
    images=st.integers(1, 60),
    classes=st.integers(1, 6),
    scale=st.sampled_from([1e-3, 0.3, 1.0, 4.0, 100.0]),
    seed=st.integers(0, 10_000),
)


def test_temperatures_that_logits_were_made_with_come_back():
    truth = [0.5, 1.0, 1.7, 4.0]
    of_exits = [drawn(temperature) for temperature in truth]  # one seed, so the labels are the same
    fitted = fit_temperatures(np.stack([logits for logits, _ in of_exits]), of_exits[0][1])
    np.testing.assert_allclose(fitted, truth, rtol=0.03)
    # The same labels and logits that differ by a factor alone: the fitted ones differ by it exactly.
    np.testing.assert_allclose(fitted / fitted[1], truth, rtol=1e-9)


def test_the_error_shrinks_as_that_of_a_mean_does():
    errors = {
        images: np.std([fit_temperatures(drawn(2.0, images, seed)[0][None], drawn(2.0, images, seed)[1])[0] - 2.0
                        for seed in range(30)])
        for images in (200, 3200)
    }  # fmt: skip
    assert 2.5 < errors[200] / errors[3200] < 6.5, "four times smaller with sixteen times the images"


def test_it_agrees_with_a_minimiser_that_knows_nothing_of_derivatives():
    logits, labels = noisy(3, 500, 10, scale=3.0, seed=1)
    for of_exit, temperature in zip(logits, fit_temperatures(logits, labels), strict=True):
        found = minimize_scalar(
            lambda t, of_exit=of_exit: loss(of_exit, labels, t), bounds=(LOWEST, HIGHEST), options={"xatol": 1e-9}
        )
        assert temperature == pytest.approx(found.x, rel=1e-5)


def test_calibrated_confidence_is_the_accuracy():
    """What temperatures are for: as sure as it is right, for an exit that was far too sure."""
    logits, labels = drawn(4.0)
    before = ExitScores.from_logits(logits[None], labels)
    after = ExitScores.from_logits(logits[None], labels, temperatures=fit_temperatures(logits[None], labels))
    assert before.confidence.mean() - before.correct.mean() > 0.1
    assert after.confidence.mean() == pytest.approx(after.correct.mean(), abs=0.01)
    np.testing.assert_array_equal(after.prediction, before.prediction)


@given(problem=problems)
def test_no_temperature_is_better(problem):
    logits, labels = problem
    fitted = fit_temperatures(logits, labels)
    assert fitted.shape == logits.shape[:1]
    assert ((fitted >= LOWEST) & (fitted <= HIGHEST)).all()
    for of_exit, temperature in zip(logits, fitted, strict=True):
        least = loss(of_exit, labels, temperature)
        for other in (1.0, LOWEST, HIGHEST, temperature * 1.01, temperature / 1.01):
            if LOWEST <= other <= HIGHEST:
                assert least <= loss(of_exit, labels, other) + 1e-9


@given(problem=problems)
def test_the_derivative_vanishes_inside_the_bounds(problem):
    logits, labels = problem
    for of_exit, temperature in zip(logits, fit_temperatures(logits, labels), strict=True):
        inverse = torch.tensor(1 / temperature, dtype=torch.float64, requires_grad=True)
        cross_entropy(torch.as_tensor(of_exit).double() * inverse, torch.as_tensor(labels)).backward()
        slope = float(inverse.grad)
        if temperature == LOWEST:
            assert slope <= 1e-9
        elif temperature == HIGHEST:
            assert slope >= -1e-9
        else:
            assert abs(slope) < 1e-6 * np.abs(of_exit).max()


@given(problem=problems, seed=st.integers(0, 100))
def test_order_of_images_and_names_of_classes_do_not_matter(problem, seed):
    logits, labels = problem
    rng = np.random.default_rng(seed)
    images, classes = rng.permutation(logits.shape[1]), rng.permutation(logits.shape[2])
    renamed = fit_temperatures(logits[:, images][:, :, classes], classes.argsort()[labels[images]])
    np.testing.assert_allclose(renamed, fit_temperatures(logits, labels), rtol=1e-6)


def test_each_exit_alone_and_constants_added_to_an_image():
    logits, labels = noisy(3, 200, 5, scale=2.0, seed=2)
    together = fit_temperatures(logits, labels)
    alone = [fit_temperatures(logits[k : k + 1], labels)[0] for k in range(3)]
    np.testing.assert_array_equal(together, alone)
    shifted = logits.astype(np.float64) + np.random.default_rng(0).normal(size=(3, 200, 1)) * 50
    np.testing.assert_allclose(fit_temperatures(shifted, labels), together, rtol=1e-9)


def test_the_bounds():
    logits, _ = noisy(1, 50, 4, scale=1.0, seed=3)
    right, wrong = logits.argmax(-1)[0], logits.argmin(-1)[0]
    assert fit_temperatures(logits, right).tolist() == [LOWEST]
    assert fit_temperatures(logits, wrong).tolist() == [HIGHEST]
    assert fit_temperatures(np.zeros((2, 3, 4)) + 7, np.array([0, 1, 2])).tolist() == [1.0, 1.0]
    assert fit_temperatures(np.zeros((1, 3, 1)), np.zeros(3)).tolist() == [1.0]
    huge = np.float32([[[3e38, -3e38], [-3e38, 3e38]]])
    assert fit_temperatures(huge, [0, 1]).tolist() == [LOWEST]


def test_half_precision_and_gradients_are_taken_as_they_are():
    logits, labels = noisy(2, 100, 5, scale=1.0, seed=4)
    half = torch.as_tensor(logits).bfloat16()
    expected = fit_temperatures(half.double().numpy(), labels)
    np.testing.assert_array_equal(fit_temperatures(half.requires_grad_(), torch.as_tensor(labels).int()), expected)


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (np.zeros((4, 10)), np.zeros(4), r"must be \(exits, images, classes\)"),
        (np.zeros((2, 4, 10)), np.zeros(5), r"must be \(exits, images, classes\)"),
        (np.zeros((2, 0, 10)), np.zeros(0), "no images to fit temperatures on"),
        (np.zeros((2, 4, 10)), np.full(4, 10), r"must lie in 0\.\.9"),
        (np.zeros((2, 4, 10)), np.full(4, -1), r"must lie in 0\.\.9"),
        (np.zeros((2, 4, 10)), np.full(4, math.nan), r"must lie in 0\.\.9"),
        (np.full((2, 4, 10), math.nan), np.zeros(4), "need finite logits"),
        (np.full((2, 4, 10), math.inf), np.zeros(4), "need finite logits"),
    ],
)
def test_mistakes_are_named(logits, labels, message):
    with pytest.raises(UserError, match=message):
        fit_temperatures(logits, labels)
