"""What a training run makes of the machine that it is on, and what its record says of that."""

import json
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from tests.end_to_end.commands import SMALL, train

RUN = [*SMALL, "trainer.precision=auto", "evaluate=false", "run=results"]


def test_auto_precision_is_recorded_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ranet.cli.training.resume.training_precision", lambda accelerator: "bf16-mixed")
    outcome = train(*RUN, folder=tmp_path)
    assert "continues with it" not in outcome.out
    record = tmp_path / "results" / "config.yaml"
    assert OmegaConf.load(record).trainer.precision == "bf16-mixed"

    monkeypatch.setattr("ranet.cli.training.resume.training_precision", lambda accelerator: "32-true")
    said = "The run was started with trainer.precision=bf16-mixed and continues with it; a new run would take 32-true"
    assert said in train(*RUN, "resume=true", folder=tmp_path).out
    assert OmegaConf.load(record).trainer.precision == "bf16-mixed"


def test_both_stages_of_a_run_have_one_precision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ranet.cli.training.resume.training_precision", lambda accelerator: "bf16-mixed")
    train(*RUN, "technique=imta_two_stage", "trainer.max_epochs=2", folder=tmp_path)
    for folder in ("results", "results/stage1"):
        assert OmegaConf.load(tmp_path / folder / "config.yaml").trainer.precision == "bf16-mixed"


def test_the_record_says_how_many_threads_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One, because threads that share a busy core wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("ranet.support.hardware.available_cores", lambda: 1)
    try:
        train(*RUN, "trainer.precision=32-true", folder=tmp_path)
    finally:
        torch.set_num_threads(before)
    assert json.loads((tmp_path / "results" / "environment.json").read_text())["threads"] == 1
