"""What training says through a pipe: a line an epoch with the numbers of metrics.csv, and nothing of wandb unasked."""

import csv
import re
from pathlib import Path

import pytest

from tests.end_to_end.commands import SHORT, SMALL, Outcome, ranet

OPTIONS = [*(option for option in SHORT if "wandb" not in option), *SMALL, "evaluate=false", "run=run"]
PERCENT = r"\d+\.\d"
EPOCH = re.compile(
    rf"epoch (?P<number>\d+)/2  loss (?P<loss>\d+\.\d{{3}})  train (?P<train_1>{PERCENT}) / (?P<train_2>{PERCENT}) %  "
    rf"val (?P<val_1>{PERCENT}) / (?P<val_2>{PERCENT}) % \(first / last exit\)  \d[.\d]* (s|min)"
)


def metrics(folder: Path) -> list[dict[str, str]]:
    """The rows of each epoch's numbers as one."""
    with (folder / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["train/loss"] or row["val/loss"]]
    epochs: dict[str, dict[str, str]] = {}
    for row in rows:
        epochs.setdefault(row["epoch"], {}).update({name: value for name, value in row.items() if value})
    return list(epochs.values())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("says")


@pytest.fixture(scope="module")
def run(folder: Path) -> Outcome:
    outcome = ranet("train", *OPTIONS, "trainer.max_epochs=2", "trainer.enable_progress_bar=true", folder=folder)
    assert outcome.status == 0, outcome.err
    return outcome


def test_a_line_an_epoch_from_1_with_the_numbers_of_the_metrics(run: Outcome, folder: Path) -> None:
    lines = [line for line in run.out.splitlines() if "epoch" in line]
    assert lines[0] == f"Training digits_msdnet_plain_seed0 from epoch 1 of 2 in {folder / 'run'}"
    found = [EPOCH.fullmatch(line) for line in lines[1:]]
    assert all(found), lines
    assert [match["number"] for match in found if match] == ["1", "2"]
    for match, row in zip(found, metrics(folder / "run"), strict=True):
        assert match is not None
        assert match["loss"] == f"{float(row['train/loss']):.3f}"
        for name in ("train_1", "train_2", "val_1", "val_2"):
            split, exit_number = name.split("_")
            assert match[name] == f"{100 * float(row[f'{split}/accuracy_exit{exit_number}']):.1f}"
    assert not set("\r\x1b") & set(run.out + run.err), "a bar in a pipe"
    assert "epoch" not in run.err.lower()


def test_a_finished_run_that_goes_on_says_so_with_the_same_numbers(run: Outcome, folder: Path) -> None:
    outcome = ranet("train", *OPTIONS, "trainer.max_epochs=2", "resume=true", folder=folder)
    assert outcome.status == 0, outcome.err
    lines = [line for line in outcome.out.splitlines() if "epoch" in line]
    assert lines == [f"Training digits_msdnet_plain_seed0 is done, with all 2 epochs, in {folder / 'run'}"]


def test_nothing_of_wandb_unless_asked(run: Outcome, folder: Path) -> None:
    assert "wandb" not in run.out + run.err
    assert not list(folder.rglob("wandb"))


def test_wandb_says_one_line_when_asked(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    outcome = ranet("train", *OPTIONS, "logger.wandb.mode=offline", folder=tmp_path)
    assert outcome.status == 0, outcome.err
    (own,) = (tmp_path / "run" / "wandb").glob("offline-run-*")
    # Its service, a process of its own, has our file descriptors.
    said = "\n".join([outcome.out, outcome.err, *capfd.readouterr()])
    assert [line for line in said.splitlines() if line.startswith("wandb")] == [
        f"wandb: wandb sync {own} uploads this run",
    ]
