"""What the results say of the small networks and of training speed is what their files say."""

import re

import numpy as np
import pytest

from tests.results.readme import check_section, column, exits, prose, rows, section, span

NAME = "Small networks"
TRAINED = {
    "ranet_small_cifar10_cpu": "ranet_small",
    "msdnet_small_cifar10_cpu": "msdnet_small",
    "ranet_small_cifar100_cpu": "ranet_small",
}
RANET, MSDNET, _ = TRAINED
WITHOUT_FILE = [
    "10,000 test images",
    "(n=1, seed 0)",
    "45,000 training images, batch 64",
    "5,000 validation images",
    "Seed 0.",
    "42, 47 and 42 minutes of CPU time, 104, 107 and 103 minutes",
    "PyTorch 2.15.0, Lightning 2.6.6, Python 3.11.7",
    "train for 300 epochs",
]


def sweep(run: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean cost in millions, accuracy on test and accuracy on validation of the policies."""
    table = rows(f"{run}/budgeted.csv")
    cost = column(table, "test_mean_paper_ops") / 1e6
    return cost, column(table, "test_accuracy_percent"), column(table, "val_accuracy_percent")


def table_rows() -> list[str]:
    found = []
    for run, network in TRAINED.items():
        each = [f"{cost:.1f} M {accuracy:.2f} %" for cost, accuracy in zip(*exits(run), strict=True)]
        cost, test, _ = sweep(run)
        best = int(test.argmax())
        ratio = float(rows(f"{run}/budgeted.csv")[best]["ratio"])
        highest = f"{cost[best]:.1f} M {test[best]:.2f} % (ratio {ratio:g})"
        found.append(f"| [{run}]({run}) | `{network}`, {len(each)} exits | {', '.join(each)} | {highest} |")
    return found


def sentences() -> list[str]:
    costs, accuracies = exits(RANET)
    cost, test, _ = sweep(RANET)
    enough = cost[test >= accuracies[-1]][0]
    lost = np.array([test.max() - test[validation.argmax()] for _, test, validation in map(sweep, TRAINED)])
    grid = np.linspace(max(cost[0], sweep(MSDNET)[0][0]), cost[-1], 10_000)
    ahead = np.interp(grid, *sweep(MSDNET)[:2]) > np.interp(grid, cost, test)
    ahead_from = grid[np.flatnonzero(~ahead)[-1] + 1]
    (epochs,) = {
        max(int(float(row["epoch"])) for row in rows(f"{run}/training.csv") if row["epoch"]) for run in TRAINED
    }
    return [
        f"{epochs + 1} epochs on",
        f"the accuracy of its last exit ({accuracies[-1]:.2f} % at {costs[-1]:.1f} M) at a mean of {enough:.1f} M",
        f"is ahead of the small RANet on CIFAR-10 at every mean cost from {ahead_from:.1f} M on; the RANet",
        f"the ratio that the validation images pick gives {span(lost)} points less",
    ]


def test_the_section_says_what_its_files_say() -> None:
    check_section(NAME, sentences(), table_rows(), WITHOUT_FILE)


def test_what_an_exit_costs_buys_more_when_confident_images_leave() -> None:
    for run in TRAINED:
        cost, test, _ = sweep(run)
        for limit, accuracy in list(zip(*exits(run), strict=True))[1:]:
            assert test[cost <= limit].max() > accuracy
    assert exits(RANET)[0][0] < exits(MSDNET)[0][0]  # it reaches lower costs


def test_the_guarantees_fit_the_networks() -> None:
    found = re.findall(
        r"\| `(\w+)` \| [\d.]+ \| ([\d.]+) M, (\d+) % \| ([\d.]+) \| [-+][\d.]+ \| ([-+][\d.]+) \|",
        section("What exit policies promise, and keep"),
    )
    assert len(found) == 9
    for run, cost, share, accuracy, lost in found:
        costs, accuracies = exits(run)
        assert abs(100 * float(cost) / costs[-1] - float(share)) < 0.5 + 5 / costs[-1]
        assert float(lost) == pytest.approx(accuracies[-1] - float(accuracy), abs=1e-9)


def test_the_speed_of_training_is_that_of_its_steps() -> None:
    name = "Training speed on a processor"
    found = re.findall(r"\| (\d+) \| (0\.\d+) \|", section(name))
    assert len(found) == 6
    for milliseconds, epochs in found:
        assert f"{64 * 1000 / 45_000 / float(milliseconds):.4f}" == epochs
    assert f"with bf16 and channels_last on ({found[-1][0]} ms)" in prose(name)
