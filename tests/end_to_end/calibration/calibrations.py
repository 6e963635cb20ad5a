"""What tests of ranet calibrate share: a network, and what is to be true of every policy."""

import csv
import shutil
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from ranet.calibration import ExitPolicy, ExitScores, evaluate_policy
from tests.end_to_end.commands import ranet as command
from tests.end_to_end.commands import train

#: Three exits that get better from the first to the last, which is right for half of some large and clear digits.
NETWORK = [
    *("model=msdnet", "model.blocks=3", "model.base=1", "model.step=1", "model.channels=4", "model.growth=4"),
    *("model.growth_factors=[1,2]", "model.bottleneck_factors=[1,2]", "optim.exit_weights=[0.03,0.2,1]"),
    *("optim=cosine", "optim.schedule.warmup_epochs=0", "data.train_limit=1152", "data.batch_size=16"),
]
EASY = {"min_size": 24, "max_size": 32, "clutter": 0}
RESULTS = ["calibration.csv", "calibration.png", "config.yaml", "environment.json", "static_exits.csv"]


def train_network(folder: Path) -> None:
    """Put its run into FOLDER/run."""
    shutil.copytree(Path(_trained().name) / "run", folder / "run")


@cache
def _trained() -> TemporaryDirectory[str]:
    """Train it, in a few seconds; a run may be copied."""
    folder = TemporaryDirectory()
    easy = [f"data.{name}={value}" for name, value in EASY.items()]
    train(*NETWORK, *easy, "evaluate=false", "run=run", folder=Path(folder.name))
    return folder


def calibrate(*options: str | Path, folder: Path) -> str:
    """Type ``ranet calibrate OPTIONS`` in a folder, where it succeeds; gives what it says."""
    outcome = command("calibrate", *options, folder=folder)
    assert outcome.status == 0, outcome.err
    assert not outcome.err
    return outcome.out


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "calibration.csv").open(newline="") as lines:
        return list(csv.DictReader(lines))


def check_promise(policy: ExitPolicy, scores: ExitScores) -> None:
    """What the metadata promise is what the policy does on the scores that it was solved on."""
    seen, predicted = evaluate_policy(policy, scores, policy.metadata["cost_per_exit"]), policy.metadata["predicted"]
    assert predicted["images"] == scores.num_images
    assert predicted["exit_shares"] == seen.exit_shares.tolist()
    assert (predicted["cost"], predicted["accuracy"]) == pytest.approx((seen.mean_cost, seen.accuracy), rel=1e-12)
    for name in ("cost", "accuracy"):
        low, high = predicted[f"{name}_interval"]
        assert low <= predicted[name] <= high


def uses_up(policy: ExitPolicy, budget: float) -> bool:
    """Whether the policy costs no more than the budget, and hardly less: by a few images that go one exit further."""
    costs, predicted = policy.metadata["cost_per_exit"], policy.metadata["predicted"]
    return budget - 5 * (costs[-1] - costs[0]) / predicted["images"] <= predicted["cost"] <= budget
