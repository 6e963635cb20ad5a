"""Bars on standard error while something takes its time: on a terminal alone, and nothing of them stays."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ranet.cli.inputs.scoring import Watched
from ranet.data import ImageData
from ranet.support.progress import Bar
from tests.end_to_end.commands import SMALL, ranet, train

BACKEND = ("backend=torch", "device=cpu")


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bars")
    train(*SMALL, "evaluate=false", "run=run", folder=folder)
    assert ranet("calibrate", "checkpoint=run", "budget=80%", "output=policy.json", folder=folder).status == 0
    np.save(folder / "images.npy", np.random.default_rng(0).integers(0, 256, (70, 32, 32, 3), dtype=np.uint8))
    return folder


def commands(into: Path) -> dict[str, tuple[list[str], list[str]]]:
    """Command lines, and the bars that they show in this order."""
    data = f"cache={into / 'cache'}"
    policy = ["checkpoint=run", "policy=policy.json"]
    return {
        "evaluate": (
            ["checkpoint=run", f"run={into / 'e'}", data],
            ["Scoring test images", "Scoring validation images"],
        ),
        "calibrate": (
            ["checkpoint=run", "budget=80%", "unit=ms", *BACKEND, f"run={into / 'c'}", data],
            ["Measuring stages", "Scoring validation images", "Solving policies"],
        ),
        "predict": ([*policy, "images=images.npy", *BACKEND], ["Opening the engine", "Answering images"]),
        "export": ([*policy, f"output={into / 'x'}"], ["Exporting stages"]),
    }


@pytest.mark.parametrize(
    "verb", ["predict", *(pytest.param(verb, marks=pytest.mark.slow) for verb in ("evaluate", "calibrate", "export"))]
)
def test_each_wait_has_its_bar_on_a_terminal_and_none_through_a_pipe(
    verb: str, here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")
    outcomes = []
    for place in ("pipe", "terminal"):
        options, bars = commands(tmp_path / place)[verb]
        outcomes.append(ranet(verb, *options, folder=here, on_terminal=place == "terminal"))
        assert outcomes[-1].status == 0, outcomes[-1].err
    piped, shown = outcomes
    assert not any(what in piped.err for what in bars)
    assert [shown.err.index(what) for what in bars] == sorted(shown.err.index(what) for what in bars)
    assert "100%" in shown.err
    if verb == "predict":
        assert shown.out == piped.out, "rows alone are on standard output"


def test_notices_and_warnings_come_above_the_bar(capsys: pytest.CaptureFixture[str]) -> None:
    with Bar("Waiting"):
        print("ranet: a notice", file=sys.stderr)
    assert capsys.readouterr().err == "ranet: a notice\n"


def test_a_loader_says_how_far_it_is_where_it_goes_on_in_the_middle() -> None:
    data = ImageData("digits", eval_copies=1, eval_batch_size=100, validation_size=250)
    data.setup()
    calls: list[tuple[int, int]] = []
    loader = Watched(data.evaluation_loader("validation"), lambda done, total: calls.append((done, total)))
    assert [len(labels) for _, labels in loader] == [100, 100, 50]
    assert calls == [(1, 3), (2, 3), (3, 3)]
    loader.load_state_dict({"given": 2})
    (rest,) = loader
    assert torch.equal(rest[1], list(loader)[-1][1])
    assert calls[3] == (3, 3)
