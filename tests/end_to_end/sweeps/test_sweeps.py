from pathlib import Path

import pytest
from omegaconf import OmegaConf

from tests.end_to_end.commands import SHORT, SMALL, ranet

SWEEP = [*SHORT, "data.train_limit=32", "evaluate=false", "logger.wandb.mode=offline", "sweep=sweep"]


def check(jobs: list[Path], expected: list[tuple[str, int]]) -> None:
    """Each job has its own folder with its own configuration, results and wandb run."""
    assert [job.name for job in jobs] == [
        f"{i}_digits_{name}_plain_seed{seed}" for i, (name, seed) in enumerate(expected)
    ]
    for job, (name, seed) in zip(jobs, expected, strict=True):
        config = OmegaConf.load(job / "config.yaml")
        assert (config.model.name, config.seed) == (name, seed)
        assert (job / "checkpoints" / "last.ckpt").is_file()
        assert (job / "metrics.csv").is_file()
        (run,) = (job / "wandb").glob("offline-run-*")
        assert len(list(run.glob("run-*.wandb"))) == 1


def jobs_of(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / "sweep").iterdir() if path.is_dir())


@pytest.mark.parametrize("place", ["before the options", pytest.param("among the options", marks=pytest.mark.slow)])
def test_a_sweep_makes_a_folder_and_a_wandb_run_for_each_job(place: str, tmp_path: Path) -> None:
    flag = 0 if place == "before the options" else 3
    options = [*SWEEP, *SMALL, "seed=2,3"]
    outcome = ranet("train", *options[:flag], "-m", *options[flag:], folder=tmp_path)
    assert outcome.status == 0, outcome.err
    check(jobs_of(tmp_path), [("msdnet", 2), ("msdnet", 3)])


@pytest.mark.slow
def test_a_sweep_runs_side_by_side(tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    options = ["model=ranet_tiny,msdnet_tiny", "seed=0,1", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    outcome = ranet("train", "-m", *SWEEP, *options, folder=tmp_path)
    assert outcome.status == 0, outcome.err
    check(jobs_of(tmp_path), [(name, seed) for name in ("ranet_tiny", "msdnet_tiny") for seed in (0, 1)])


def test_the_other_jobs_go_on_when_one_fails(tmp_path: Path) -> None:
    outcome = ranet(
        *("train", "-m", *SWEEP, *SMALL, "optim.exit_weights=[1],[1,1]", "logger.wandb.mode=disabled"),
        folder=tmp_path,
    )
    assert outcome.status == 1
    assert "failed: exit_weights has 1 weights" in outcome.err
    assert outcome.err.splitlines()[-1] == "ranet: 1 of the jobs failed; the others are done."
    failed, good = jobs_of(tmp_path)
    assert not (failed / "checkpoints").exists()
    assert (good / "checkpoints" / "last.ckpt").is_file()


def test_a_sweep_of_distributed_runs_is_refused(tmp_path: Path) -> None:
    options = ["trainer.devices=2", "seed=0,1", "logger.wandb.mode=disabled"]
    outcome = ranet("train", "-m", *SWEEP, *SMALL, *options, folder=tmp_path)
    assert outcome.status == 1
    assert outcome.err.count("failed: A sweep (-m) cannot start the processes of distributed runs") == 2
