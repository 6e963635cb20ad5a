"""A folder of results is one command's own: a second one is refused, and default names are never given twice."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from ranet.cli.outputs import own_folder
from ranet.cli.outputs.own_folder import locked, register_stamp
from ranet.errors import UserError
from tests.end_to_end.commands import SHORT, SMALL, content, ranet, train

HOLD = """
import sys
from pathlib import Path
from ranet.cli.outputs.own_folder import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""
NO_DATA = ["data=imagefolder", "data.root=missing", "trainer.accelerator=cpu"]


@contextmanager
def held(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Let another process work in a folder until its standard input is closed."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process


def test_the_second_process_is_told_so(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with held(folder) as holder:
        before = content(tmp_path)
        for verb in (["train", *NO_DATA], ["evaluate", "checkpoint=run"]):
            outcome = ranet(*verb, "run=run", folder=tmp_path)
            assert outcome.status == 1
            sentence = outcome.err.splitlines()[-1]
            assert sentence.startswith(f"ranet: {folder} is in use by process {holder.pid} on ")
            assert sentence.endswith("; wait until it is done, or choose another folder.")
            assert not outcome.out
        assert content(tmp_path) == before
        # What another command reads is not its own.
        assert "is in use" not in ranet("evaluate", "checkpoint=run", "run=other", folder=tmp_path).err
    assert not folder.exists(), "a folder that was made for nothing stays"


def test_a_folder_is_free_when_its_process_was_killed(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with held(folder) as holder:
        holder.send_signal(signal.SIGKILL)
    assert holder.returncode == -signal.SIGKILL
    assert [path.name for path in folder.iterdir()] == [".lock"]
    with locked(folder):
        pass
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("name", ["RANK", "LOCAL_RANK", "SLURM_PROCID"])
def test_the_other_processes_of_a_distributed_run_do_not_ask(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK"):
        monkeypatch.delenv(variable, raising=False)
    with held(tmp_path):
        monkeypatch.setenv(name, "1")
        with locked(tmp_path):
            pass
        assert (tmp_path / ".lock").exists(), "it is the first process's"
        monkeypatch.setenv(name, "0")
        with pytest.raises(UserError, match="is in use by process"), locked(tmp_path):
            pass


def test_a_folder_stays_one_processs_own_while_others_come_and_go(tmp_path: Path) -> None:
    with held(tmp_path):
        for _ in range(2):
            with pytest.raises(UserError, match="is in use by process"), locked(tmp_path):
                pass
    with locked(tmp_path):
        pass


class Frozen(datetime):
    @classmethod
    def now(cls, tz: object = None) -> "Frozen":
        return cls(2026, 7, 8, 9, 10, 11)


@pytest.fixture
def _frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop the clock of the names of folders."""
    monkeypatch.setattr(own_folder, "datetime", Frozen)


@pytest.mark.usefixtures("_frozen")
def test_default_folders_of_the_same_second_differ() -> None:
    stamps = set()
    for _ in range(20):  # commands
        register_stamp()
        config = OmegaConf.create({"run": "runs/${stamp:}_a", "sweep": "runs/${stamp:}_a"})
        assert config.run == config.sweep == config.run, "it is one command's"
        stamps.add(config.run)
    assert len(stamps) == 20
    assert all(stamp.startswith("runs/2026-07-08_09-10-11_") for stamp in stamps)


@pytest.mark.usefixtures("_frozen")
@pytest.mark.slow
def test_two_commands_and_a_sweep_of_the_same_second_have_folders_of_their_own(tmp_path: Path) -> None:
    options = [*SMALL, "data.train_limit=32", "evaluate=false"]
    for _ in range(2):
        train(*options, folder=tmp_path)
    outcome = ranet("train", "-m", *SHORT, *options, "seed=0,1", folder=tmp_path)
    assert outcome.status == 0, outcome.err
    assert len(list((tmp_path / "runs" / "train").iterdir())) == 2
    (sweep,) = (tmp_path / "runs" / "sweeps").iterdir()
    jobs = sorted(path for path in sweep.iterdir() if path.is_dir())
    assert [job.name for job in jobs] == [f"{i}_digits_msdnet_plain_seed{i}" for i in range(2)]
    for job in jobs:
        assert (job / "metrics.csv").is_file()
        assert sweep.name in str(OmegaConf.load(job / "config.yaml").sweep)
