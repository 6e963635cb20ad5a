"""kill -9, and the same command again."""

import csv
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.end_to_end.commands import SHORT, SMALL, content, ranet

#: Three epochs of three steps.
RUN = [
    *SHORT,
    *SMALL,
    "trainer.max_epochs=3",
    "optim=cosine",
    "evaluate=false",
    "run=run",
]

#: Kill the process, as kill -9 does, in the midst of its second epoch.
KILLED = """
import os, signal
from ranet.cli.main import main
from ranet.training import MultiExitClassifier
step = MultiExitClassifier.training_step
def killed(self, *batch):
    if self.global_step == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, *batch)
MultiExitClassifier.training_step = killed
main()
"""


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def written(folder: Path) -> dict[str, bytes]:
    """All files of a run but the lock, which a killed process leaves and the next one takes away."""
    return {name: file for name, file in content(folder).items() if name != ".lock"}


def read(checkpoint: Path) -> dict:
    return torch.load(checkpoint, weights_only=True)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Sums depend on how many threads share them: here as in the process that is killed."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that is never killed."""
    folder = tmp_path_factory.mktemp("whole")
    outcome = ranet("train", *RUN, folder=folder)
    assert outcome.status == 0, outcome.err
    return folder / "run"


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was killed in the midst of its second epoch."""
    folder = tmp_path_factory.mktemp("killed")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, "-c", KILLED, "train", *RUN], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert run.returncode == -9, run.stderr
    return folder / "run"


@pytest.mark.usefixtures("killed")
@pytest.mark.slow
class TestAKilledRun:
    def test_it_was_killed_in_its_second_epoch(self, killed: Path) -> None:
        assert read(killed / "checkpoints" / "last.ckpt")["global_step"] == 3
        assert int(rows(killed)[-1]["step"]) == 2

    def test_it_is_not_overwritten(self, killed: Path) -> None:
        before = written(killed)
        outcome = ranet("train", *RUN, folder=killed.parent)
        assert outcome.status == 1
        assert "holds a training run already; add resume=true" in outcome.err
        assert written(killed) == before

    @pytest.mark.parametrize(
        ("option", "message"),
        [
            ("seed=1", "was trained with data.seed=0, not 1"),
            ("trainer.max_epochs=5", "was trained with trainer.max_epochs=3, not 5"),
            ("model.growth=4", "was trained with model.growth=2, not 4"),
            ("optim.schedule.final_factor=0.1", "was trained with optim.schedule.final_factor=0.0, not 0.1"),
            ("optim.exit_weights=[1,2]", "was trained with optim.exit_weights=None, not [1, 2]"),
        ],
    )
    def test_it_is_not_resumed_as_another_run(self, killed: Path, option: str, message: str) -> None:
        before = written(killed)
        outcome = ranet("train", *RUN, "resume=true", option, folder=killed.parent)
        assert outcome.status == 1
        assert message in outcome.err
        assert written(killed) == before

    def test_it_resumes_to_the_run_that_was_never_killed(self, killed: Path, whole: Path, tmp_path: Path) -> None:
        """In another folder, as on the next machine of a cluster."""
        shutil.copytree(killed, tmp_path / "run")
        outcome = ranet("train", *RUN, "resume=true", folder=tmp_path)
        assert outcome.status == 0, outcome.err
        assert "Training digits_msdnet_plain_seed0 from epoch 2 of 3 in" in outcome.out
        assert rows(tmp_path / "run") == rows(whole)
        for name in ("last.ckpt", "best.ckpt"):
            ours, theirs = read(tmp_path / "run" / "checkpoints" / name), read(whole / "checkpoints" / name)
            assert ours["global_step"] == theirs["global_step"]
            assert list(ours["state_dict"]) == list(theirs["state_dict"])
            for weight, value in theirs["state_dict"].items():
                assert torch.equal(ours["state_dict"][weight], value), (name, weight)


def test_a_finished_run_is_evaluated_again_and_not_trained(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "run")
    outcome = ranet("train", *RUN, "resume=true", "evaluate=true", folder=tmp_path)
    assert outcome.status == 0, outcome.err
    before, after = content(whole), content(tmp_path / "run")
    changed = {name for name in after if before.get(name) != after[name]}
    assert {name for name in changed if not name.startswith("evaluation/")} == {"config.yaml", "environment.json"}
    assert "evaluation/anytime.csv" in changed
