"""kill -9, and the same command again."""

import csv
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from .commands import SHORT, SMALL, content, ranet, start

#: Three epochs of 100 steps: long enough to be killed in the midst of one.
RUN = [
    *SHORT,
    *SMALL,
    "data.train_limit=800",
    "data.batch_size=8",
    "trainer.max_epochs=3",
    "optim=cosine",
    "evaluate=false",
    "run=run",
]


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


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
    """A run that was killed soon after its first checkpoint, in the midst of the second epoch."""
    folder = tmp_path_factory.mktemp("killed")
    run = start("train", *RUN, folder=folder, threads=1)
    try:
        while run.poll() is None and not (folder / "run" / "checkpoints" / "last.ckpt").exists():
            time.sleep(0.01)
        time.sleep(0.15)
    finally:
        run.kill()
        _, err = run.communicate()
    assert run.returncode == -9, err
    return folder / "run"


@pytest.mark.usefixtures("killed")
class TestAKilledRun:
    def test_it_was_killed_in_its_second_epoch(self, killed: Path) -> None:
        assert read(killed / "checkpoints" / "last.ckpt")["global_step"] == 100
        assert int(rows(killed)[-1]["step"]) == 99

    def test_it_is_not_overwritten(self, killed: Path) -> None:
        before = content(killed)
        outcome = ranet("train", *RUN, folder=killed.parent)
        assert outcome.status == 1
        assert "holds a training run already; add resume=true" in outcome.err
        assert content(killed) == before

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
        before = content(killed)
        outcome = ranet("train", *RUN, "resume=true", option, folder=killed.parent)
        assert outcome.status == 1
        assert message in outcome.err
        assert content(killed) == before

    def test_it_resumes_to_the_run_that_was_never_killed(self, killed: Path, whole: Path, tmp_path: Path) -> None:
        """In another folder, as on the next machine of a cluster."""
        shutil.copytree(killed, tmp_path / "run")
        outcome = ranet("train", *RUN, "resume=true", folder=tmp_path)
        assert outcome.status == 0, outcome.err
        assert "Training digits_msdnet_plain_seed0 from step 100 in" in outcome.out
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
