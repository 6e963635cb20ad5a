"""A full disk: what cannot be written is named, and what was there before is kept, whatever the verb."""

import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ranet.training import WholeFiles
from tests.end_to_end.commands import SHORT, SMALL, Outcome, content, ranet, train

POLICY = ["checkpoint=run", "policy=policy.json"]
CALIBRATE = ["checkpoint=run", "budget=80%", "run=OUT/run", "sweep=sweep", "output=OUT/policy.json"]
QUICK = ["rounds=1", "seconds=0.1", "backends=torch"]
#: By verb: options, how many bytes a file may have, and what cannot be written then.
COMMANDS = {
    "calibrate": (CALIBRATE, 0, "policy.json"),
    "calibrate, its figure": (CALIBRATE, 10_000, "run/calibration.png"),
    "evaluate": (["checkpoint=run", "run=OUT"], 0, "config.yaml"),
    "evaluate, its scores": (["checkpoint=run", "run=OUT", "sweep=sweep"], 9000, "scores_test.npz"),
    "export": ([*POLICY, "output=OUT/engine"], 2000, "engine"),
    "predict": ([*POLICY, "images=images.npy", "output=OUT/rows.csv", "backend=torch", "device=cpu"], 500, "rows.csv"),
    "compare": (["runs", "output=OUT", "budgets=2"], 0, "config.yaml"),
    "bench": ([*POLICY, "run=OUT", *QUICK], 0, "config.yaml"),
    "costs": ([*SMALL, "output=OUT/costs.json"], 100, "costs.json"),
    "check": (["data.root=pictures", "output=OUT/found.csv"], 10, "found.csv"),
}

#: Those that take least; the others are among the slow tests.
EVERY_DAY = ("calibrate", "predict", "compare", "costs", "check")


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Refuse this process larger files, as a full disk would; Python ignores the signal that comes with it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture(scope="module")
def here(write_run: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all that the commands read."""
    folder = tmp_path_factory.mktemp("unwritable")
    train(*SMALL, "evaluate=false", "run=run", folder=folder)
    outcome = ranet("calibrate", "checkpoint=run", "budget=80%", "output=policy.json", "run=first", folder=folder)
    assert outcome.status == 0, outcome.err
    pixels = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
    np.save(folder / "images.npy", pixels)
    for i, name in enumerate(["a", "b"]):
        for split in ("train", "val"):
            place = folder / "pictures" / split / name
            place.mkdir(parents=True)
            for k in range(3):
                Image.fromarray(pixels[3 * i + k]).save(place / f"{k}.png")  # copies across splits
        write_run(folder / "runs" / name, i)
    return folder


def refuses(outcome: Outcome, path: Path) -> None:
    assert outcome.status == 1
    assert outcome.err.splitlines()[-1] == (
        f"ranet: {path} cannot be written (File too large); the earlier one is kept; "
        "raise the limit of file sizes (ulimit -f), and do it again."
    )
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=[] if case in EVERY_DAY else [pytest.mark.slow]) for case in COMMANDS]
)
def test_what_was_there_is_kept(case: str, here: Path, tmp_path: Path) -> None:
    options, size, path = COMMANDS[case]
    command = [case.partition(",")[0], *(option.replace("OUT", str(tmp_path)) for option in options)]
    first = ranet(*command, folder=here)
    assert first.status == (case == "check"), first.err
    files = content(tmp_path)
    with files_of_at_most(size):
        refuses(ranet(*command, folder=here), tmp_path / path)
    assert content(tmp_path) == files


def test_the_checkpoint_of_the_epoch_before_is_kept_and_training_goes_on_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["train", *SHORT, *SMALL, "trainer.max_epochs=2", "data.validation_size=0", "evaluate=false", "run=run"]
    save, kept = WholeFiles.save_checkpoint, {}

    def full(self: WholeFiles, *arguments: Any, **options: Any) -> None:
        if not kept and (tmp_path / "run" / "checkpoints" / "last.ckpt").exists():
            kept.update(content(tmp_path / "run" / "checkpoints"))
            with files_of_at_most(9000):
                save(self, *arguments, **options)
        save(self, *arguments, **options)

    monkeypatch.setattr(WholeFiles, "save_checkpoint", full)
    outcome = ranet(*options, folder=tmp_path)
    refuses(outcome, tmp_path / "run" / "checkpoints" / "last.ckpt")
    assert content(tmp_path / "run" / "checkpoints") == kept
    outcome = ranet(*options, "resume=true", folder=tmp_path)
    assert outcome.status == 0, outcome.err
    assert "from epoch 2 of 2 in" in outcome.out
