"""Promises kept on images that nothing was solved on: the scores of a network that was really trained on CIFAR-10."""

from pathlib import Path

import numpy as np
import pytest

from ranet.calibration import POLICIES, Calibration, ExitScores, calibrate_each, evaluate_policy
from ranet.calibration.policies.intervals import accuracy_difference

Data = tuple[ExitScores, ExitScores, np.ndarray]


@pytest.fixture(scope="module")
def data(shared: Path) -> Data:
    with np.load(shared / "fixtures" / "msdnet_cifar10_scores.npz") as file:
        validation = ExitScores.from_logits(file["val_logits"], file["val_labels"])
        test = ExitScores.from_logits(file["test_logits"], file["test_labels"])
        return validation, test, file["paper_ops"]


def solved(data: Data, policy: str) -> list[Calibration]:
    validation, _, costs = data
    budgets = costs[0] + (np.arange(20) + 0.5) / 20 * (costs[-1] - costs[0])
    return calibrate_each(validation, costs, budgets, policy=policy, alternatives=False)


@pytest.mark.parametrize("policy", [policy for policy in POLICIES if policy != "one_threshold"])
def test_the_realised_cost_is_within_two_percent_of_the_budget(policy: str, data: Data) -> None:
    for result in solved(data, policy):
        seen = evaluate_policy(result.policy, data[1], data[2])
        assert seen.mean_cost == pytest.approx(result.policy.metadata["budget"], rel=0.02)


def test_optimal_is_never_significantly_worse_than_geometric(data: Data) -> None:
    test = data[1]
    for free, rule in zip(solved(data, "optimal"), solved(data, "geometric"), strict=True):
        one, other = (test.correct_at(of.policy.exits(test)) for of in (free, rule))
        assert one is not None
        assert other is not None
        difference, (low, high) = accuracy_difference(one, other)
        assert high >= 0
        assert low <= difference <= high


def test_accuracies_are_promised_within_their_intervals(data: Data) -> None:
    """The interval is of the mean over all images; the 10,000 test images have an error of their own beside it."""
    for result in solved(data, "geometric"):
        seen = evaluate_policy(result.policy, data[1], data[2]).accuracy
        error = (result.interval[1] - result.interval[0]) / 2 * np.sqrt(1 + 5000 / 10000)
        assert abs(seen - result.predicted_accuracy) < 1.5 * error


@pytest.mark.parametrize("policy", ["geometric", "margin", "entropy"])
def test_real_scores_miss_the_budget_by_no_more_than_their_crowds(policy: str, data: Data) -> None:
    """Where scores are equal, at 1.0 above all, images leave together: so many are the most that can be missing."""
    validation, _, costs = data
    scores = validation.score(POLICIES[policy])
    crowd = max(int(np.unique(row, return_counts=True)[1].max()) for row in scores[:-1])
    for result in solved(data, policy):
        budget = result.policy.metadata["budget"]
        one_image = (costs[-1] - costs[0]) / validation.num_images
        assert budget - (crowd + 1) * one_image <= result.predicted_cost <= budget
