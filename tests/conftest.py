"""Where the reference weights, counts and real data lie, when they lie beside the checkout."""

import gc
import io
import os
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings
from omegaconf import OmegaConf
from rich.cells import cell_len
from rich.console import Console

from ranet.calibration import ExitScores
from ranet.cost import CostProfile, CostTable
from ranet.cost.profile import Counts
from ranet.support.console import print_sheets
from ranet.support.sheet import Sheet

# What is imported stays, so that the garbage collector need not look through it again and again, nor look so often.
gc.disable()
gc.set_threshold(10_000, 10, 20)

# Small networks are no faster on several threads, and much slower where the machine has other things to do.
os.environ["OMP_NUM_THREADS"] = "1"  # for the commands
torch.set_num_threads(1)

# Every day the same few examples; --hypothesis-profile=thorough draws many others (make test-all). How long one takes
# depends on what else the machine does. Where one is dear a test takes a third of them.
settings.register_profile(
    "everyday", deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=12, derandomize=True
)
settings.register_profile("thorough", settings.get_profile("everyday"), max_examples=150, derandomize=False)
settings.load_profile("everyday")


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def score_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep the scores and graphs of commands here, in one folder for all workers, and not in the user's own cache."""
    session = tmp_path_factory.getbasetemp()
    folder = (session.parent if "PYTEST_XDIST_WORKER" in os.environ else session) / "cache"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RANET_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def shared() -> Path:
    for folder in Path(__file__).resolve().parents:
        if (folder / "shared" / "spec" / "golden_costs.json").is_file():
            return folder / "shared"
    pytest.skip("shared/ with the reference networks' counts, weights and real data is not beside this checkout")


@pytest.fixture(scope="session")
def cifar_root(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The official CIFAR-10 and CIFAR-100 files."""
    root = tmp_path_factory.mktemp("cifar")
    script = shared / "data" / "restore_cifar.py"
    folders = ["cifar-10-batches-py", "cifar-100-python"]
    subprocess.run([sys.executable, script, root, *folders], check=True, capture_output=True)
    return root


def random_scores(exits: int, images: int, seed: int, labels: np.ndarray) -> ExitScores:
    """Scores that get better from exit to exit, and differ from seed to seed."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(exits, images, 10)).astype(np.float32)
    logits[:, np.arange(images), labels] += np.linspace(1.0, 3.0, exits)[:, None] * rng.uniform(0.0, 2.0, size=images)
    return ExitScores.from_logits(logits, labels)


@pytest.fixture(params=[60, 80])
def require_readable(request: pytest.FixtureRequest) -> Callable[[Sheet], str]:
    """Print a table on a narrow terminal, and check that no line is too long and no number is cut or broken."""

    def check(sheet: Sheet) -> str:
        file = io.StringIO()
        print_sheets(Console(file=file, width=request.param, markup=False), sheet)
        lines = file.getvalue().splitlines()
        assert max(map(cell_len, lines)) <= request.param
        for column, cells in zip(sheet.columns, zip(*sheet.cells, strict=True), strict=True):
            for cell in () if column.left else cells:
                assert all(any(part in line for line in lines) for part in cell.splitlines()), (cell, lines)
        assert "…" not in file.getvalue()
        return file.getvalue()

    return check


@pytest.fixture(scope="session")
def write_run() -> Callable[..., Path]:
    """Make the folder of a finished run with made-up scores; options are dotted names."""

    def write(
        folder: Path,
        seed: int = 0,
        *,
        exits: int = 3,
        images: int = 40,
        first_cost: int = 1_000_000,
        validation: bool = True,
        **options: Any,
    ) -> Path:
        config = {"seed": seed, "data": {"name": "digits", "seed": seed}, "trainer": {"max_epochs": 1}}
        config = OmegaConf.create({**config, "model": {"name": "ranet_tiny"}, "run": str(folder)})
        for name, value in options.items():
            OmegaConf.update(config, name, value)
        evaluation = folder / "evaluation"
        evaluation.mkdir(parents=True)
        OmegaConf.save(config, folder / "config.yaml")
        (folder / "environment.json").write_text('{"command": ["ranet", "train"], "git_revision": "0123abc"}')
        labels = np.random.default_rng(0).integers(10, size=images)
        number = zlib.crc32(f"{folder.name} {seed}".encode())  # each run has scores of its own
        random_scores(exits, images, number, labels).save(evaluation / "scores_test.npz")
        if validation:
            random_scores(exits, images, number + 1, labels).save(evaluation / "scores_validation.npz")
        each = np.arange(1, exits + 1)
        macs = CostTable.of_exits(first_cost * each, "macs")
        counts = Counts(macs, CostTable.of_exits((first_cost + 1000) * each, "paper_ops"))
        CostProfile(32, 1, counts, counts).save(evaluation / "costs.json")
        (evaluation / "report.json").write_text("{}")
        return folder

    return write
