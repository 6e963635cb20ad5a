from pathlib import Path

import pytest

from ranet.training import MetricsLog
from tests.training.examples import rows


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The log of a run that was killed in its second epoch, after the checkpoint at step 4."""
    log = MetricsLog(tmp_path)
    for step, metrics in [(0, {"lr": 0.1}), (3, {"train/loss": 2.5}), (4, {"lr": 0.2}), (6, {"train/loss": 9.0})]:
        log.log_metrics(metrics, step)
        log.save()
    return tmp_path


KEPT = [
    {"lr": "0.1", "step": "0", "train/loss": ""},
    {"lr": "", "step": "3", "train/loss": "2.5"},
]


def test_a_resumed_log_keeps_the_rows_before_its_step(folder: Path) -> None:
    log = MetricsLog(folder, resume_step=4)
    log.save()
    assert rows(folder) == KEPT
    log.log_metrics({"lr": 0.2, "more": 1.0}, 4)
    log.save()
    *before, last = rows(folder)
    assert before == [{**row, "more": ""} for row in KEPT]
    assert last == {"lr": "0.2", "more": "1.0", "step": "4", "train/loss": ""}


def test_a_new_log_starts_anew(folder: Path) -> None:
    log = MetricsLog(folder)
    log.log_metrics({"lr": 0.3}, 0)
    log.save()
    assert rows(folder) == [{"lr": "0.3", "step": "0"}]


class Killed(BaseException):
    pass


@pytest.mark.parametrize("where", ["while it writes", "before it renames"])
def test_a_log_that_is_killed_while_it_saves_is_as_it_was(
    folder: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (folder / "metrics.csv").read_bytes()
    log = MetricsLog(folder, resume_step=4)
    log.log_metrics({"train/loss": 1.5}, 6)

    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        if where == "while it writes":
            patch.setattr("csv.DictWriter.writerows", killed)
        else:
            patch.setattr(Path, "replace", killed)
        with pytest.raises(Killed):
            log.save()
    assert (folder / "metrics.csv").read_bytes() == before
    assert [file.name for file in folder.iterdir()] == ["metrics.csv"]
    MetricsLog(folder, resume_step=4).save()
    assert rows(folder) == KEPT
