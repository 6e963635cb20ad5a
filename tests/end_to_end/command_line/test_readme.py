"""The README's commands and code, run as they stand there (with fewer and smaller steps where they train)."""

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file

import ranet
from ranet.models.adapted.named import create_classifier
from tests.end_to_end.commands import ranet as command

ROOT = Path(__file__).resolve().parents[3]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
COMMANDS = [line for block in BLOCKS for line in block.replace("\\\n", "").splitlines()]
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
# What makes a training short; every other word of the command stays.
SHORT = [
    "trainer.max_epochs=1",
    "data.train_limit=24",
    "trainer.enable_progress_bar=false",
    "logger.wandb.mode=disabled",
]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A user's folder of photographs, of sizes as they come."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 30), ("val", 8)):
        for label, name in enumerate(("cats", "dogs")):
            folder = tmp_path / "photos" / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 128, (70 + i, 90, 3), dtype=np.uint8) + np.uint8(100 * label)
                Image.fromarray(pixels).save(folder / f"{i}.png")
    save_file(create_classifier("mobilenet_v3_small", 2).state_dict(), tmp_path / "mobilenet.safetensors")
    (tmp_path / "new").mkdir()
    for i in range(5):
        pixels = rng.integers(0, 255, (80, 60 + i, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "new" / f"{i}.jpg")
    return tmp_path


def words(line: str, cifar: Path) -> list[str]:
    """The command's words, shortened where it trains, with data in place of a download."""
    program, *arguments = shlex.split(line)
    assert program == "ranet"
    if arguments[0] == "train":
        arguments += SHORT
        if "optim=cosine" in arguments:
            arguments.append("optim.schedule.warmup_epochs=0")
        elif "-m" in arguments:
            arguments += ["data.train_copies=1", "data.eval_copies=1"]
        else:  # is not measured afterwards
            arguments.append("evaluate=false")
        if "data.download=true" in arguments:
            arguments.append("+trainer.limit_val_batches=1")
    if arguments[0] == "bench":
        arguments += ["backends=torch", "seconds=1", "rounds=1"]
    if "deadline=1000" in arguments:
        arguments.append("backend=torch")
    # Six validation images cannot promise one point.
    replaced = {"data.download=true": f"data.root={cifar}", "risk.eps=0.01": "risk.eps=0.5"}
    return [replaced.get(word, word) for word in arguments]


@pytest.mark.slow
def test_the_commands_of_the_readme_work_one_after_the_other(
    photos: Path, cifar_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos)
    assert len(COMMANDS) >= 18
    for line in COMMANDS:
        outcome = command(*words(line, cifar_root), folder=photos)
        assert outcome.status == 0, (line, outcome.err)
    assert (photos / "runs" / "photos" / "evaluation" / "budgeted.png").exists()
    assert (photos / "policy.json").exists()
    assert len((photos / "answers.csv").read_text().splitlines()) == 6
    assert (photos / "engine" / "manifest.json").exists()
    assert (photos / "comparison" / "comparison.png").exists()
    assert (photos / "exits" / "manifest.json").exists()
    assert len((photos / "cascade.csv").read_text().splitlines()) == 6
    (block,) = [block for block in PYTHON if 'EarlyExitEngine("engine")' in block]
    names: dict[str, Any] = {"ranet": ranet}
    exec(block, names)
    assert names["image"].shape[0] == 3
    assert ranet.load_trained("runs/photos").network.num_classes == len(names["engine"].classes)


@pytest.mark.slow
def test_the_python_of_the_readme_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    assert len(PYTHON) == 8
    for block in PYTHON:
        if 'EarlyExitEngine("engine")' not in block:  # which needs what the commands have written
            exec(block, names)
    costs = names["costs"].macs_per_exit  # type: ignore[attr-defined]
    assert f"# {costs}" in README


def test_what_the_readme_points_to_is_there() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", re.sub(r"```.*?```", "", README, flags=re.DOTALL)):
        assert target.startswith("https://") or (ROOT / target).exists(), target


@pytest.mark.parametrize(
    "target",
    [
        "help",
        "install",
        "demo",
        "test",
        "test-slow",
        "test-all",
        "lint",
        "typecheck",
        "format",
        "bench",
        "bench-engine",
        "bench-training",
        "clean",
    ],
)
def test_make_knows_its_targets(target: str) -> None:
    listed = subprocess.run(["make", "help"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert re.search(rf"^  make {target} ", listed, re.MULTILINE)
    subprocess.run(["make", "--dry-run", target], cwd=ROOT, check=True, capture_output=True)


@pytest.mark.minutes
def test_make_demo_works_twice_on_a_fresh_clone_and_gives_what_it_promises(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
    for _ in range(2):
        subprocess.run(["make", "demo", f"PYTHON={sys.executable}"], cwd=clone, check=True)
    folder = clone / "runs" / "demo" / "evaluation"
    top1 = [float(row.split(",")[2]) for row in (folder / "anytime.csv").read_text().splitlines()[1:]]
    assert top1[-1] > 95
    assert top1[0] < top1[-1] - 2
    cost = [float(row.split(",")[1]) for row in (folder / "anytime.csv").read_text().splitlines()[1:]]
    header, *rows = [row.split(",") for row in (folder / "budgeted.csv").read_text().splitlines()]
    cheap = [float(row[header.index("test_accuracy_percent")]) for row in rows
             if float(row[header.index("test_mean_macs")]) <= cost[-1] / 2]  # fmt: skip
    assert max(cheap) > top1[-1] - 1
    assert all((folder / name).stat().st_size > 10_000 for name in ("anytime.png", "budgeted.png"))
