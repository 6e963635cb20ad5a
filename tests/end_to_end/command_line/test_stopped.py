"""Ctrl-C and SIGTERM: one sentence, the status that shells know, and whole files, whatever is going on."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.end_to_end.commands import SHORT, SMALL, hears_signals, start

#: What a program does when the signal comes: it sends it to itself.
PROGRAMS = {
    "waits": "tell()",
    "drops what is raised": "Dropping()",
    "swallows what is raised": """
try:
    tell()
except BaseException:
    pass""",
    "makes another error of it": """
try:
    tell()
except BaseException:
    raise RuntimeError("lost a worker")""",
    "ends of itself": """
try:
    tell()
except BaseException:
    sys.exit(1)""",
    "is told twice": """
try:
    tell()
finally:
    tell()
    os.write(1, b"closed")""",
    "has forked workers": """
worker = multiprocessing.get_context("fork").Process(target=time.sleep, args=[60])
worker.start()
tell()""",
}
BEFORE = """
import multiprocessing, os, signal, sys, time
from ranet.cli.ending import Stopped, ended_in_order, when_stopped

def tell():
    os.killpg(0, int(sys.argv[1]))

class Dropping:
    def __del__(self):
        tell()
        for _ in range(1000):  # bytecodes in which the signal arrives
            pass

def program():
"""
AFTER = """
    time.sleep(60)

try:
    with ended_in_order(), when_stopped(lambda said: f"{said}It can go on."):
        program()
except Stopped as stopped:
    stopped.leave()
print("not told")
"""


def ignores_ctrl_c() -> None:
    hears_signals()
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def run(program: str, number: signal.Signals, ignored: bool = False) -> "subprocess.CompletedProcess[str]":
    """Run one of the programs in a group of its own."""
    lines = "\n".join(f"    {line}" for line in program.splitlines())
    return subprocess.run(
        [sys.executable, "-c", BEFORE + lines + AFTER, str(int(number))],
        capture_output=True,
        text=True,
        timeout=50,
        process_group=0,
        preexec_fn=ignores_ctrl_c if ignored else hears_signals,
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
@pytest.mark.parametrize("what", PROGRAMS)
def test_it_ends_with_one_sentence_whatever_the_program_does(what: str, number: signal.Signals) -> None:
    done = run(PROGRAMS[what], number)
    assert (done.returncode, done.stderr) == (128 + number, "ranet: It can go on.\n")
    assert done.stdout == ("closed" if what == "is told twice" else "")


def test_who_ignores_ctrl_c_goes_on_to_ignore_it() -> None:
    done = run("tell()\nreturn", signal.SIGINT, ignored=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "not told\n", "")
    assert run("tell()", signal.SIGTERM, ignored=True).returncode == 128 + signal.SIGTERM


TRAIN = ["train", *SHORT, *SMALL, "trainer.max_epochs=500"]


def tell_training(
    number: signal.Signals, group: bool, *options: str | Path, folder: Path
) -> "tuple[int, list[str], list[str]]":
    """Tell a training to stop in its third epoch; its status and the lines that it says."""
    process = start(*options, folder=folder)
    assert process.stdout is not None
    out = []
    for line in process.stdout:
        out.append(line.rstrip())
        if line.startswith("epoch   2/500"):
            break
    assert process.poll() is None, process.communicate()
    (os.killpg if group else os.kill)(process.pid, number)
    rest, err = process.communicate(timeout=120)  # to the end of what all of its processes write
    return process.returncode, [*out, *rest.splitlines()], err.splitlines()


def check_checkpoint(path: Path, sentence: str) -> None:
    """The checkpoint can be read, and the sentence names the epoch after it."""
    checkpoint = torch.load(path, weights_only=True)
    match = re.search(r"continues from epoch (\d+) of 500", sentence)
    assert match is not None, sentence
    assert checkpoint["epoch"] == int(match[1]) - 2  # Lightning counts from 0
    assert sorted(file.name for file in path.parent.iterdir()) == ["best.ckpt", "last.ckpt"]


@pytest.mark.parametrize(
    ("number", "group"),
    [
        (signal.SIGTERM, False),
        pytest.param(signal.SIGTERM, True, marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, True, marks=pytest.mark.slow),
    ],
    ids=["SIGTERM", "SIGTERM to all", "Ctrl-C"],
)
def test_training_with_workers_ends_with_one_sentence(number: signal.Signals, group: bool, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("val", 2)):
        for name in "ab":
            place = tmp_path / "photos" / split / name
            place.mkdir(parents=True)
            for i in range(count):
                Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(place / f"{i}.png")
    options = [option for option in TRAIN if "copies" not in option and "limit" not in option]
    photos = ["data=imagefolder", "data.root=photos", "data.image_size=32", "data.num_workers=2", "data.batch_size=8"]
    status, out, err = tell_training(number, group, *options, *photos, "run=run", folder=tmp_path)
    assert status == 128 + number, err
    assert err[:-1] == ["ranet train: loading PyTorch ..."]
    assert err[-1].startswith("ranet: Stopped; the same command with run=run resume=true continues from epoch ")
    assert out[-1].startswith("epoch ")
    check_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt", err[-1])
    assert not (tmp_path / "run" / ".lock").exists()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
def test_all_processes_of_a_distributed_run_end(number: signal.Signals, tmp_path: Path) -> None:
    options = [*TRAIN, "run=run", "trainer.devices=2", "trainer.strategy=ddp"]
    status, _, err = tell_training(number, number == signal.SIGINT, *options, folder=tmp_path)
    assert status == 128 + number, err
    assert [line for line in err if "loading" not in line] == [err[-1]]
    check_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt", err[-1])


@pytest.mark.slow
def test_a_sweep_ends_and_names_its_job(tmp_path: Path) -> None:
    options = ["-m", *TRAIN[1:], "seed=3,4", "sweep=sweep"]
    status, _, err = tell_training(signal.SIGTERM, False, "train", *options, folder=tmp_path)
    assert status == 128 + signal.SIGTERM
    assert err[-1].startswith("ranet: Stopped; the same command with sweep=sweep resume=true continues from epoch ")
    assert err[-1].endswith(" It was in job 0 (seed=3).")
    (job,) = (path for path in (tmp_path / "sweep").iterdir() if path.is_dir())
    check_checkpoint(job / "checkpoints" / "last.ckpt", err[-1])


@pytest.mark.slow
def test_jobs_in_other_processes_end_with_their_sweep(tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    options = ["-m", *TRAIN[1:], "seed=3,4", "sweep=sweep", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    status, _, err = tell_training(signal.SIGINT, True, "train", *options, folder=tmp_path)
    assert status == 128 + signal.SIGINT
    assert [line for line in err if "loading" not in line] == [
        "ranet: Stopped in the jobs 0_digits_msdnet_plain_seed3, 1_digits_msdnet_plain_seed4; "
        "the same command with sweep=sweep resume=true continues it."
    ]
