import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.examples import rows
from tests.training.two_processes import train

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes (gloo) left behind, each of which had half of every batch."""
    folder = tmp_path_factory.mktemp("two")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.training.two_processes", folder],
            cwd=ROOT,
            env={**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        for process in processes:
            said, _ = process.communicate(timeout=300)
            assert process.returncode == 0, said
    finally:
        for process in processes:
            process.kill()
    return folder


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """What one process left behind that had the whole batches."""
    folder = tmp_path_factory.mktemp("one")
    return folder, train(folder, 1)


def of_rank(folder: Path, rank: int) -> dict[str, Any]:
    return torch.load(folder / f"rank{rank}.pt", weights_only=True)


def test_the_batches_of_both_processes_together_are_those_of_one(two: Path, one: tuple[Path, Any]) -> None:
    whole = one[1].labels
    assert [len(labels) for labels in whole] == [32, 28, 32, 28]
    for rank in range(2):
        halves = of_rank(two, rank)["labels"]
        assert [half.tolist() for half in halves] == [labels[rank::2].tolist() for labels in whole]


def test_both_processes_step_with_the_gradients_of_one(two: Path, one: tuple[Path, Any]) -> None:
    """Of every step: from the second on, they also show that the weights have gone the same way.

    All is in double precision, so 1e-9 is far above rounding on any processor and far below any mistake.
    """
    first, second = of_rank(two, 0)["gradients"], of_rank(two, 1)["gradients"]
    assert len(first) == len(one[1].gradients) == 4
    for step, expected in enumerate(one[1].gradients):
        assert set(first[step]) == set(expected)
        for name, gradient in expected.items():
            assert torch.equal(first[step][name], second[step][name])
            scale = gradient.abs().max().item()
            torch.testing.assert_close(first[step][name], gradient, rtol=0, atol=1e-9 * scale, msg=f"{step} {name}")


def test_both_processes_log_the_numbers_of_one(two: Path, one: tuple[Path, Any]) -> None:
    """But for the rounding of the few losses of an epoch, which are added up in float32."""
    ours, theirs = rows(two / "run"), rows(one[0])
    assert len(ours) == len(theirs) == 6
    for row, expected in zip(ours, theirs, strict=True):
        assert {name: float(value) for name, value in row.items() if value} == pytest.approx(
            {name: float(value) for name, value in expected.items() if value}, rel=1e-6
        )


def test_a_bad_loss_of_one_process_stops_both_before_the_checkpoint(two: Path) -> None:
    for rank in range(2):
        assert "at step 2 (epoch 1)" in of_rank(two, rank)["error"]
    assert not list((two / "bad").rglob("*.ckpt"))
