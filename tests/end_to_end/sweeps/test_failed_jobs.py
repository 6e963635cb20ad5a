"""Several jobs of a sweep fail: the others are done, and all that failed are named in a table at the end."""

from pathlib import Path

import pytest

from tests.end_to_end.commands import SHORT, SMALL, Outcome, ranet

SWEEP = [*SHORT, *SMALL, "data.train_limit=32", "evaluate=false", "sweep=sweep"]


def check(outcome: Outcome, folder: Path) -> None:
    """Jobs 0 and 2 have failed, each for its reason; job 1 has its results."""
    assert outcome.status == 1
    assert "Traceback" not in outcome.err
    *before, last = outcome.err.splitlines()
    assert last == "ranet: 2 of the jobs failed; the others are done."
    table = before[before.index(next(line for line in before if line.startswith("Jobs that failed"))) + 1 :]
    assert table[0].split() == ["job", "options", "error"]
    starts = [i for i, line in enumerate(table) if line[:4].strip().isdigit()]
    assert [int(table[i][:4]) for i in starts] == [0, 2]
    # Cells are folded where the terminal is narrow.
    for begin, end, weights in zip(starts, [starts[1], len(table)], ["[1]", "[1,1,1]"], strict=True):
        text = "".join("".join(table[begin:end]).split())
        assert f"optim.exit_weights={weights}" in text
        assert f"exit_weightshas{weights.count('1')}weights" in text
    jobs = sorted(path for path in (folder / "sweep").iterdir() if path.is_dir())
    assert [(job / "checkpoints" / "last.ckpt").is_file() for job in jobs] == [False, True, False]
    assert (jobs[1] / "metrics.csv").is_file()


def test_all_are_named_with_a_table_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    outcome = ranet("train", "-m", *SWEEP, "optim.exit_weights=[1],[1,1],[1,1,1]", folder=tmp_path)
    check(outcome, tmp_path)
    for job in (0, 2):
        assert f"ranet: job {job} (optim.exit_weights=" in outcome.err, "it is also said at once"


def test_a_later_sweep_forgets_them(tmp_path: Path) -> None:
    assert ranet("train", "-m", *SWEEP, "optim.exit_weights=[1],[2]", folder=tmp_path).status == 1
    outcome = ranet("train", "-m", *SWEEP, "sweep=later", "optim.exit_weights=[1,1],[1,2]", folder=tmp_path)
    assert outcome.status == 0
    assert "failed" not in outcome.err


@pytest.mark.slow
def test_those_of_other_processes_are_named_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    monkeypatch.setenv("COLUMNS", "200")
    options = ["optim.exit_weights=[1],[1,1],[1,1,1]", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    check(ranet("train", "-m", *SWEEP, *options, folder=tmp_path), tmp_path)
