"""What ranet calibrate says of exits alone, of cheaper policies, and of few images."""

import csv
import json
from math import inf
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest

from ranet.calibration import load_policy
from tests.end_to_end.calibration.calibrations import calibrate, rows
from tests.end_to_end.commands import ranet as command

COSTS = "cost=[1,2,4]"


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three exits that are right for 40, 76 and 75 of 100 images, whatever their confidence; a few; and transposed."""
    folder = tmp_path_factory.mktemp("choices")
    rng = np.random.default_rng(0)
    for name, images in (("scores", 2000), ("few", 4)):
        labels = np.arange(images) % 3
        right = np.arange(images) % 100 < np.array([[40], [76], [75]])
        confidence = rng.uniform(0.4, 1, size=(3, images))
        prediction = np.where(right, labels, (labels + 1) % 3)
        np.savez(folder / f"{name}.npz", confidence=confidence, prediction=prediction, labels=labels)
        np.savez(folder / f"{name}_transposed.npz", confidence=confidence.T)
    return folder


def interval(right: int, images: int) -> str:
    exact = binomtest(right, images).proportion_ci(method="exact")
    return f"({100 * exact.low:.1f}-{100 * exact.high:.1f})"


def test_an_exit_alone_is_chosen_and_said(here: Path, tmp_path: Path) -> None:
    out = calibrate("scores=scores.npz", COSTS, "budget=50%", f"run={tmp_path}", folder=here)
    policy = load_policy(tmp_path / "policy.json")
    assert policy.thresholds == (inf, -inf)
    told = policy.metadata["instead_of"]
    assert told["accuracy"] < 0.72
    assert (
        "Exit 2 alone is chosen: it answers 76.00 % of the validation images rightly at a cost of 2.000, and the "
        f"geometric policy that spends the budget {100 * told['accuracy']:.2f} % at {told['cost']:#.4g} (a difference "
        f"of {76 - 100 * told['accuracy']:.2f} points, 95 % interval +"
    ) in out
    (row,) = rows(tmp_path)
    assert (row["policy"], row["chosen"]) == ("geometric", "exit 2 alone")
    # The exits stand in the table, in a file and in the policy.
    lines = [" ".join(line.split()) for line in out.split("Each exit alone")[1].splitlines()]
    with (tmp_path / "static_exits.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    content = json.loads((tmp_path / "policy.json").read_text())["metadata"]["static_exits"]
    for k, right in enumerate((800, 1520, 1500)):
        assert f"{k + 1} {[1, 2, 4][k]}.000 {right / 20:.2f} {interval(right, 2000)}" in lines
        assert float(found[k]["validation_accuracy_percent"]) == right / 20
        assert (content["cost"][k], content["accuracy"][k]) == ([1, 2, 4][k], right / 2000)
        low, high = content["accuracy_interval"][k]
        assert f"({100 * low:.1f}-{100 * high:.1f})" == interval(right, 2000)


def test_the_familys_own_policy_is_kept_on_request_and_the_better_exit_said(here: Path, tmp_path: Path) -> None:
    options = ["scores=scores.npz", COSTS, "alternatives=false", f"run={tmp_path}"]
    out = calibrate(*options, "budget=50%", folder=here)
    policy = load_policy(tmp_path / "policy.json")
    predicted = policy.metadata["predicted"]
    assert "chosen" not in policy.metadata
    assert (
        "Exit 2 alone is better: it answers 76.00 % of the validation images rightly at a cost of 2.000, and this "
        f"policy {100 * predicted['accuracy']:.2f} % at {predicted['cost']:#.4g}."
    ) in out
    out = calibrate(*options, "budget=[1.5,2.5,4]", folder=here)
    assert (
        "2 of 3 policies lose to exit 2 alone: on the validation images it is at least as accurate and costs no" in out
    )


def test_of_several_budgets_it_is_said_from_which_on_more_buys_nothing(here: Path, tmp_path: Path) -> None:
    out = calibrate("scores=scores.npz", COSTS, "budget=[1.5,2,3,5]", "policy=patience", f"run={tmp_path}", folder=here)
    found = rows(tmp_path)
    accuracies = [float(row["predicted_accuracy_percent"]) for row in found]
    assert accuracies == sorted(accuracies)
    assert [row["chosen"] for row in found[1:]] == ["exit 2 alone"] * 3
    assert "At 3 of 4 budgets another policy is chosen than the one that spends the budget, because on the" in out
    assert "at least as accurate and costs no more: exit 2 alone (3); alternatives=false spends the budgets." in out
    assert (
        "no policy is more accurate than the one of mean cost 2.000 (76.00 %): from a budget of 2.000 on, more budget "
        "gives no more accuracy."
    ) in out
    assert "The budget (5) exceeds the cost of the last exit (4)" in out


def test_a_guarantee_stays_and_the_better_exit_is_said(here: Path, tmp_path: Path) -> None:
    out = calibrate("scores=scores.npz", COSTS, "risk.eps=0.002", f"run={tmp_path}", folder=here)
    assert load_policy(tmp_path / "policy.json").thresholds != (inf, -inf)
    assert "Exit 2 alone is better: it answers 76.00 % of the validation images rightly at a cost of 2.000, and" in out
    assert "; the guarantee is proven for the policy alone." in out


def test_few_images_are_said_and_nothing_is_certain(here: Path, tmp_path: Path) -> None:
    out = calibrate("scores=few.npz", COSTS, "budget=2", f"run={tmp_path / 'c'}", folder=here)
    few = "There are only 4 {} images: intervals are wide, and what looks better may be so by chance."
    assert few.format("validation") in out
    assert "100.00 (39.8-100.0)" in out
    predicted = load_policy(tmp_path / "c" / "policy.json").metadata["predicted"]
    assert predicted["accuracy"] == 1
    assert predicted["accuracy_interval"] == pytest.approx([0.025 ** (1 / 4), 1])
    options = ["scores=few.npz", f"policy={tmp_path / 'c' / 'policy.json'}", f"run={tmp_path / 'e'}"]
    seen = command("evaluate", *options, folder=here)
    assert seen.status == 0, seen.err
    assert few.format("test") in seen.out
    report = json.loads((tmp_path / "e" / "policy_report.json").read_text())
    low, high = report["accuracy_difference"]["interval"]
    assert -1 <= low < 0 < high <= 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["scores=few_transposed.npz"], "shape (4, 3), and cost= has 3 exits: arrays must be (exits, images) or"),
        (["scores=scores.npz", "test_scores=few_transposed.npz"], "transpose them with numpy.swapaxes(ARRAY, 0, 1)"),
        (["scores=scores.npz", "alternatives=maybe"], "alternatives=maybe"),
    ],
)
def test_what_cannot_be_is_said(options: list[str], message: str, here: Path, tmp_path: Path) -> None:
    outcome = command("calibrate", *options, COSTS, "budget=2", f"run={tmp_path / 'run'}", folder=here)
    assert outcome.status == 1
    assert message in outcome.err
    assert not (tmp_path / "run" / "policy.json").exists()


def test_alternatives_are_for_budgets(here: Path, tmp_path: Path) -> None:
    options = ["scores=scores.npz", COSTS, "risk.eps=0.1", "alternatives=false", f"run={tmp_path}"]
    outcome = command("calibrate", *options, folder=here)
    assert (outcome.status, outcome.err) == (
        1,
        "ranet: alternatives=false is for a budget, and has no effect otherwise; remove it.\n",
    )
