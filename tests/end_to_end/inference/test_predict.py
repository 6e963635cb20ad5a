"""ranet predict: from images to rows, which say what the policy replayed on all exits says."""

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from ranet.calibration import ExitPolicy, ExitScores, load_policy
from ranet.cli.inputs.network_alone import load_network_alone
from ranet.data import ImageData
from ranet.data.unlabelled import unlabelled_loader
from ranet.inference.engine.engine import EarlyExitEngine
from ranet.inference.runtimes.openvino_backend import OpenVinoBackend
from ranet.inference.stages.fused_stages import FusedStage
from ranet.models import create_network, network_fingerprint
from ranet.training import load_trained
from tests.end_to_end.calibration.calibrations import calibrate, train_network
from tests.end_to_end.commands import Outcome, content, start
from tests.end_to_end.commands import ranet as command

IMAGES = 150
#: What a process of its own says first; here PyTorch is imported already.
LOADING = "ranet predict: loading PyTorch ...\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained network of three exits (run), two policies (policies, and one.json alone), and images in files."""
    here = tmp_path_factory.mktemp("predict")
    train_network(here)
    calibrate("checkpoint=run", "budget=[50%,70%]", "output=policies", "run=calibration", folder=here)
    load_policy(here / "policies" / "policy_2.json").save(here / "one.json")
    pixels = ImageData("digits", train_copies=1, eval_copies=1).test_images(range(IMAGES)).permute(0, 2, 3, 1).numpy()
    (here / "images" / "inside").mkdir(parents=True)
    for i, image in enumerate(pixels):
        Image.fromarray(image).save(here / "images" / ("inside" if i % 2 else ".") / f"{i:03}.png")
    np.save(here / "pixels.npy", pixels)
    return here


def predict(*options: str, folder: Path, policy: str = "policies") -> Outcome:
    engine = ["checkpoint=run", "backend=torch", "device=cpu", f"policy={policy}"]
    return command("predict", *engine, *options, folder=folder)


def answered(*options: str, folder: Path, policy: str = "policies") -> list[dict[str, str]]:
    """The rows of a command that succeeds, from standard output."""
    outcome = predict(*options, folder=folder, policy=policy)
    assert outcome.status == 0, outcome.err
    return list(csv.DictReader(io.StringIO(outcome.out)))


def replayed(folder: Path, policy: ExitPolicy) -> tuple[list[str], ExitScores, np.ndarray]:
    """The paths, the scores of all exits, and the exits that a policy chooses, by the code of evaluation."""
    data = ImageData("digits", train_copies=1, eval_copies=1, num_workers=0, loader="workers")
    loader = unlabelled_loader(folder / "images", data)
    paths = [str(loader.dataset.samples.path(i).relative_to(folder)) for i in range(IMAGES)]
    scores = ExitScores.collect(load_trained(folder / "run").network, loader, labelled=False)
    return paths, scores, policy.exits(scores)


def check_rows(rows: list[dict[str, str]], policy: ExitPolicy, scores: ExitScores, exits: np.ndarray) -> None:
    at = (exits, np.arange(len(exits)))
    assert [int(row["exit"]) - 1 for row in rows] == exits.tolist()
    assert [int(row["class_index"]) for row in rows] == scores.prediction[at].tolist()
    assert [row["class_name"] for row in rows] == [
        row["class_index"] for row in rows
    ]  # digits are called what they are
    np.testing.assert_allclose([float(row["probability"]) for row in rows], scores.confidence[at], atol=1e-5)
    costs = policy.metadata["cost_per_exit"]
    assert [float(row["cost_macs"]) for row in rows] == [costs[k] for k in exits]


def test_rows_are_the_policy_replayed_on_all_exits(folder: Path) -> None:
    outcome = predict("images=images", "batch_size=32", folder=folder)
    assert outcome.status == 0, outcome.err
    rows = list(csv.DictReader(io.StringIO(outcome.out)))
    policy = load_policy(folder / "policies" / "policy_1.json")
    paths, scores, exits = replayed(folder, policy)
    assert len(set(exits.tolist())) == 3
    assert [row["image"] for row in rows] == paths
    check_rows(rows, policy, scores, exits)
    mean = float(np.mean([policy.metadata["cost_per_exit"][k] for k in exits]))
    share = np.bincount(exits) / IMAGES
    assert re.fullmatch(
        rf"150 images answered in [\d.]+ s \([\d,]+ images/s\) at a mean cost of {mean:,.0f} macs "
        rf"\({mean / policy.metadata['cost_per_exit'][-1]:.1%} of the last exit's\); "
        rf"left {share[0]:.1%} at exit 1, {share[1]:.1%} at exit 2, {share[2]:.1%} at exit 3\.\n",
        outcome.err,
    )


def test_a_budget_chooses_the_policy_and_a_cap_the_deepest_exit(folder: Path) -> None:
    dear = load_policy(folder / "policies" / "policy_2.json")
    _, scores, exits = replayed(folder, dear)
    for options in (["budget=75%"], [f"budget={dear.metadata['predicted']['cost'] + 1}"]):
        check_rows(answered("images=images", *options, folder=folder), dear, scores, exits)
    check_rows(answered("images=images", folder=folder, policy="one.json"), dear, scores, exits)
    listed = "[policies/policy_2.json,policies/policy_1.json]"
    check_rows(answered("images=images", folder=folder, policy=listed), dear, scores, exits)
    capped = answered("images=images", "max_exit=2", folder=folder, policy="one.json")
    check_rows(capped, dear, scores, np.minimum(exits, 1))
    assert (exits == 2).any()


@pytest.mark.slow
def test_files_arrays_and_kinds_of_output_agree(folder: Path, tmp_path: Path) -> None:
    rows = answered("images=images", folder=folder)
    by_number = sorted(rows, key=lambda row: Path(row["image"]).name)
    from_array = answered("images=pixels.npy", folder=folder)
    assert [row["image"] for row in from_array] == [str(i) for i in range(IMAGES)]
    for row, other in zip(by_number, from_array, strict=True):
        assert abs(float(row.pop("probability")) - float(other.pop("probability"))) < 1e-5
        assert {**row, "image": None} == {**other, "image": None}

    rows = answered("images=images", folder=folder)
    for name in ("out.csv", "out.jsonl"):
        outcome = predict("images=images", f"output={tmp_path / 'new' / name}", folder=folder)
        assert outcome.status == 0, outcome.err
        assert re.search(rf"^150 images answered in .*\nWritten to {tmp_path}/new/{name}\n$", outcome.out)
        assert not outcome.err
    with (tmp_path / "new" / "out.csv").open(newline="") as file:
        assert list(csv.DictReader(file)) == rows
    lines = [json.loads(line) for line in (tmp_path / "new" / "out.jsonl").read_text().splitlines()]
    assert [{name: str(value) for name, value in line.items()} for line in lines] == rows
    assert sorted(file.name for file in (tmp_path / "new").iterdir()) == ["out.csv", "out.jsonl"]

    two = [rows[77], rows[3]]
    listed = answered(f"images=[{two[0]['image']},{two[1]['image']}]", folder=folder)
    assert [(row["image"], row["class_index"], row["exit"]) for row in listed] == [
        (row["image"], row["class_index"], row["exit"]) for row in two
    ]
    # Nothing but what was asked for is written.
    assert not any("outputs" in name or "predict" in name for name in content(folder))


def test_broken_images_are_named_at_the_end_and_the_others_answered(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "mixed").mkdir()
    good = (folder / "images" / "000.png").read_bytes()
    bomb = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(bomb, "PNG")
    for name, file in {
        "1_good": good,
        "2_empty": b"",
        "3_good": good,
        "4_text": b"hello",
        "5_bomb": bomb.getvalue(),
        "6_cut": good[: len(good) // 2],
        "7_good": good,
    }.items():
        (tmp_path / "mixed" / f"{name}.png").write_bytes(file)
    outcome = predict(f"images={tmp_path / 'mixed'}", f"output={tmp_path / 'out.csv'}", folder=folder)
    assert outcome.status == 1
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [Path(row["image"]).stem for row in rows] == ["1_good", "3_good", "7_good"]
    assert len({row["probability"] for row in rows}) == 1
    lines = outcome.err.splitlines()
    for line, (name, what) in zip(
        lines[:-1],
        {
            "2_empty": r"cannot be read as an image \(it is empty, damaged, or of no known format\)",
            "4_text": r"cannot be read as an image \(it is empty, damaged, or of no known format\)",
            "5_bomb": r"has more than 67,108,864 pixels",
            "6_cut": r"cannot be read as an image \(.*\)",
        }.items(),
        strict=True,
    ):
        assert re.fullmatch(rf"ranet: .*/mixed/{name}.png {what}\.", line)
    assert lines[-1] == "ranet: 4 of 7 images could not be answered and have no row; the others were answered."

    outcome = predict(f"images={tmp_path / 'mixed' / '2_empty.png'}", folder=folder)
    assert outcome.status == 1
    assert outcome.out == "image,class_name,class_index,probability,exit,cost_macs\n"
    assert outcome.err.endswith("ranet: 1 of 1 images could not be answered and have no row.\n")

    normalised = np.random.default_rng(0).normal(size=(5, 3, 32, 32)).astype(np.float32)
    normalised[3, 0, 0, 0] = np.nan
    np.save(tmp_path / "images.npy", normalised)
    outcome = predict(f"images={tmp_path / 'images.npy'}", "batch_size=2", folder=folder)
    assert outcome.status == 1
    assert [row["image"] for row in csv.DictReader(io.StringIO(outcome.out))] == ["0", "1", "2", "4"]
    assert "ranet: Image 3 of " in outcome.err


def test_files_of_other_kinds_are_counted_and_no_failure(folder: Path, tmp_path: Path) -> None:
    good = (folder / "images" / "000.png").read_bytes()
    for name in ("a.gif.png", "B.JPE", "c.jfif", "d.avif"):  # what they are is in them
        (tmp_path / name).write_bytes(good)
    for name in (".hidden.png", "._a.png", "__MACOSX/a.png", "notes.txt", "more.TXT", "desktop.ini"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(good)
    outcome = predict(f"images={tmp_path}", folder=folder)
    assert outcome.status == 0
    assert [Path(row["image"]).name for row in csv.DictReader(io.StringIO(outcome.out))] == [
        *("B.JPE", "a.gif.png", "c.jfif", "d.avif"),
    ]
    assert outcome.err.splitlines()[0] == "ranet: Skipped: 2 .txt, 2 hidden, 1 __MACOSX, 1 desktop.ini."


def test_images_without_a_finite_answer_have_no_row(folder: Path, tmp_path: Path) -> None:
    normalised = np.random.default_rng(0).normal(size=(5, 3, 32, 32)).astype(np.float32)
    normalised[[1, 4]] = np.copysign(np.float32(3e38), normalised[[1, 4]])  # the first convolution overflows
    np.save(tmp_path / "images.npy", normalised)
    outcome = predict(f"images={tmp_path / 'images.npy'}", f"output={tmp_path / 'out.jsonl'}", folder=folder)
    assert outcome.status == 1
    rows = [json.loads(line, parse_constant=pytest.fail) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["image"] for row in rows] == ["0", "2", "3"]
    assert outcome.out.startswith("3 images answered in ")
    what = "has no answer: its logits are too large for a probability; look at its pixels and at the weights."
    assert outcome.err.splitlines() == [
        *(f"ranet: Image {i} of {tmp_path / 'images.npy'} {what}" for i in (1, 4)),
        "ranet: 2 of 5 images could not be answered and have no row; the others were answered.",
    ]


def test_a_folder_that_cannot_be_read_is_said_at_the_end(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "closed").mkdir()
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    (tmp_path / "again").symlink_to(".")
    scan = os.scandir

    def refusing(path: Any = ".") -> Any:
        if Path(path).name == "closed":  # the super-user may read any
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refusing)
    outcome = predict(f"images={tmp_path}", folder=folder)
    assert outcome.status == 1
    assert [row["image"] for row in csv.DictReader(io.StringIO(outcome.out))] == [str(tmp_path / "a.png")]
    assert outcome.err.splitlines()[1:] == [
        f"ranet: The folder {tmp_path / 'closed'} cannot be read (Permission denied).",
        "ranet: all images of a folder could not be answered and have no row; the others were answered.",
    ]


@pytest.mark.skipif(not find_spec("openvino") or not find_spec("onnx"), reason="needs the extra openvino")
@pytest.mark.slow
@pytest.mark.parametrize(
    ("batch_size", "images", "computed"), [(48, "images", 48), (100, "images", 100), (100, "pixels.npy", 64)]
)
def test_openvino_computes_the_batch_size_that_was_asked_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch, batch_size: int, images: str, computed: int
) -> None:
    sizes, compiled = [], set()
    stream, compile_stage = EarlyExitEngine.stream, OpenVinoBackend._compile
    if images == "pixels.npy":  # fewer than a batch
        np.save(folder / "few.npy", np.load(folder / images)[:50])
        images = "few.npy"

    def seen(self: EarlyExitEngine, *args: Any, batch_size: int, **options: Any) -> Any:
        sizes.append(batch_size)
        return stream(self, *args, batch_size=batch_size, **options)

    def counted(self: OpenVinoBackend, stage: FusedStage, size: int) -> Any:
        compiled.add(size)
        return compile_stage(self, stage, size)

    monkeypatch.setattr(EarlyExitEngine, "stream", seen)
    monkeypatch.setattr(OpenVinoBackend, "_compile", counted)
    given = f"images={images}"
    rows = answered(given, f"batch_size={batch_size}", "backend=openvino", folder=folder)
    assert (sizes, compiled) == ([computed], {computed})
    expected = answered(given, folder=folder)
    for row, other in zip(rows, expected, strict=True):
        assert float(row.pop("probability")) == pytest.approx(float(other.pop("probability")), rel=1e-3)
        assert row == other


@pytest.mark.skipif(not find_spec("onnxruntime") or not find_spec("onnx"), reason="needs the extra onnx")
def test_a_stage_that_cannot_be_read_is_said_before_any_row(folder: Path, tmp_path: Path) -> None:
    outcome = command("export", "checkpoint=run", "policy=one.json", f"output={tmp_path / 'engine'}", folder=folder)
    assert outcome.status == 0, outcome.err
    for stage in (tmp_path / "engine").glob("*.onnx"):
        damaged = bytearray(stage.read_bytes())
        damaged[-1] ^= 1
        stage.write_bytes(damaged)
    options = [f"engine={tmp_path / 'engine'}", "images=images", "backend=onnxruntime"]
    outcome = command("predict", *options, folder=folder)
    assert (outcome.status, outcome.out) == (1, "")
    assert re.fullmatch(r"ranet: The stage file .* is not the one that was exported .*\n", outcome.err)


GIVEN = "checkpoint=run policy=policies images=images"
CASES: dict[str, tuple[int, str]] = {
    "": (1, "Say what answers: either checkpoint=RUN with policy=FILE, or engine=FOLDER of ranet export"),
    "images=images": (1, "Say what answers: either checkpoint=RUN"),
    f"{GIVEN} engine=run": (1, "Say what answers: either checkpoint=RUN"),
    "checkpoint=run policy=policies": (1, "Say which images: images=FOLDER, a file, a list of files, or a NumPy array"),
    "checkpoint=run policy=policies images=[]": (1, "Say which images"),
    "checkpoint=run images=images": (1, "add policy=FILE; ranet calibrate solves one"),
    "engine=nowhere images=images": (1, "nowhere"),
    "engine=images images=images": (1, "images"),
    "engine=run images=images data=digits": (1, "data= goes with checkpoint= and has no effect on engine=; remove it"),
    "engine=run images=images device=cuda": (1, "device= goes with checkpoint="),
    "checkpoint=nowhere policy=policies images=images": (1, "There is no run folder or checkpoint file nowhere"),
    "checkpoint=images policy=policies images=images": (1, "The folder images holds no checkpoint"),
    f"{GIVEN} data=cifar100": (
        1,
        "The network has 10 classes and cifar100 has 100; use the data that it was trained on",
    ),
    f"{GIVEN} backend=tensorrt": (1, "Unknown backend 'tensorrt'; known: auto, onnxruntime, openvino, torch"),
    f"{GIVEN} backend=null": (1, "Unknown backend 'None'"),
    f"{GIVEN} device=tpu": (1, "There is no device 'tpu'; say cpu, cuda or cuda:1"),
    f"{GIVEN} device=cuda:99": (1, "The network cannot be put on the device 'cuda:99'; choose another"),
    f"{GIVEN} precision=float16": (1, "Unknown precision 'float16'; did you mean bfloat16 or float32"),
    f"{GIVEN} batch_size=0": (1, "batch_size=0 must be an integer of at least 1"),
    f"{GIVEN} batch_size=null": (1, "batch_size=None must be an integer of at least 1"),
    f"{GIVEN} threads=many": (1, "threads=many must be an integer of at least 1"),
    f"{GIVEN} max_exit=0": (1, "max_exit=0 must be an integer of at least 1"),
    f"{GIVEN} max_exit=1.5": (1, "max_exit=1.5 must be an integer of at least 1"),
    f"{GIVEN} max_exit=true": (1, "max_exit=True must be an integer of at least 1"),
    f"{GIVEN} batch_size=2.5": (1, "batch_size=2.5 must be an integer of at least 1"),
    f"{GIVEN} threads=true": (1, "threads=True must be an integer of at least 1"),
    f"{GIVEN} max_exit=4": (1, "max_exit=4 must be one of the exits 1 to 3"),
    f"{GIVEN} budget=cheap": (
        1,
        "budget=cheap must be a positive number in the policies' unit, or a share such as 50%",
    ),
    f"{GIVEN} budget=cheap%": (1, "budget=cheap% must be a positive number"),
    f"{GIVEN} budget=-1": (1, "budget=-1 must be a positive number"),
    f"{GIVEN} budget=1": (1, "No policy keeps within a budget of 1 macs: the cheapest costs"),
    f"{GIVEN} output=out.txt": (1, "output=out.txt must end in .csv or .jsonl, or be - for standard output"),
    f"{GIVEN} output=null": (1, "output= must be a .csv or .jsonl file, or - for standard output"),
    f"{GIVEN} output=/proc/out.csv": (1, r"/proc/out\.csv cannot be written \("),
    f"{GIVEN} bugdet=3": (2, "Unknown option 'bugdet'; did you mean budget"),
    "checkpoint=run images=images policy=[]": (1, r"policy=\[\] names no policy"),
    "checkpoint=run images=images policy=images": (1, r"The folder images holds no policy \(policy.json or policy_\*"),
    "checkpoint=run images=images policy=nowhere.json": (1, "'nowhere.json' does not exist"),
    "checkpoint=run images=images policy=of_another.json": (1, "The policy was solved for another network"),
    "checkpoint=run images=images policy=five_exits.json": (1, "The policy is for 5 exits"),
    "checkpoint=run images=images policy=by_hand.json budget=3": (1, "chooses among policies that say what they cost"),
    "checkpoint=run policy=policies images=nowhere": (1, "There is no folder and no image .*nowhere"),
    "checkpoint=run policy=policies images=[images,nowhere]": (1, "There is no folder and no image .*nowhere"),
    "checkpoint=run policy=policies images=policies": (1, "policies holds no image"),
    "checkpoint=run policy=policies images=flat.npy": (1, "flat.npy holds uint8 .*it must hold pixels as uint8"),
    "checkpoint=run policy=policies images=all.npz": (1, "all.npz is an archive of arrays; write the images alone"),
    "checkpoint=run policy=policies images=[images,pixels.npy]": (1, "pixels.npy is an array of images; give it alone"),
}


@pytest.fixture(scope="module")
def mistakes(folder: Path) -> Path:
    metadata = {"network": {"fingerprint": "0" * 16}}
    ExitPolicy((0.5, 0.5), metadata=metadata).save(folder / "of_another.json")
    ExitPolicy((0.5,) * 4).save(folder / "five_exits.json")
    ExitPolicy((0.5, 0.5)).save(folder / "by_hand.json")
    np.save(folder / "flat.npy", np.zeros((3, 32, 32), np.uint8))
    return folder


@pytest.mark.parametrize(
    "line",
    # All take twenty seconds: every other one is tried with all tests.
    [pytest.param(line, marks=[pytest.mark.slow] if i % 2 else []) for i, line in enumerate(CASES)],
    ids=list(CASES),
)
def test_a_mistake_is_said_in_one_sentence_and_leaves_nothing(line: str, mistakes: Path) -> None:
    status, message = CASES[line]
    before = content(mistakes)
    options = [] if "backend=" in line or not line.startswith("checkpoint") else ["backend=torch"]
    outcome = command("predict", *line.split(" ") if line else (), *options, folder=mistakes)
    assert outcome.status == status, outcome.err
    assert re.search(f"^ranet: .*{message}", outcome.err)
    assert outcome.err.count("\n") == 1
    assert not outcome.out
    assert content(mistakes) == before


def test_numbers_that_may_not_be_normalised_are_said(folder: Path, tmp_path: Path) -> None:
    images = np.random.default_rng(0).random((3, 3, 32, 32), dtype=np.float32)
    for name, given in (("raw", images), ("right", images - 0.5)):
        np.save(tmp_path / f"{name}.npy", given)
        outcome = predict(f"images={tmp_path / name}.npy", folder=folder)
        assert (outcome.status, outcome.out.count("\n")) == (0, 4)
        said = "raw.npy is below 0, so they may not be normalised" in outcome.err
        assert said == (name == "raw")


@pytest.mark.slow
def test_milliseconds_that_were_measured_elsewhere_are_said(folder: Path, tmp_path: Path) -> None:
    latency = {"backend": "torch", "precision": "float32", "batch_size": 8}
    metadata = {"unit": "ms", "cost_per_exit": [1.0, 2.0, 3.0], "latency": latency}
    ExitPolicy((0.5, 0.5), metadata=metadata).save(tmp_path / "ms.json")
    for size in (8, 1):
        outcome = predict("images=images", f"batch_size={size}", folder=folder, policy=str(tmp_path / "ms.json"))
        assert outcome.status == 0, outcome.err
        said = "measured with backend=torch precision=float32 batch_size=8; here images take other times" in outcome.err
        assert said == (size == 1)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_who_is_told_to_end_leaves_nothing_half_written(number: signal.Signals, folder: Path, tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    pixels = np.zeros((32, 32, 3), dtype=np.uint8)
    for i in range(40):
        Image.fromarray(pixels).save(images / f"{i:02}.png")
    slow = """
import signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets jobs behind it ignore this
from ranet.cli.main import main
from ranet.inference.images.files import ImageFiles
read = ImageFiles.read
ImageFiles.read = lambda *arguments: (time.sleep(0.5), read(*arguments))[1]
main()
"""
    out = tmp_path / "out"
    options = ["checkpoint=run", "policy=one.json", f"images={images}", f"output={out / 'a.csv'}", "backend=torch"]
    process = subprocess.Popen(
        [sys.executable, "-c", slow, "predict", *options], cwd=folder, stderr=subprocess.PIPE, text=True
    )
    while not (out.exists() and list(out.iterdir())):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(number)
    _, err = process.communicate(timeout=120)
    assert (process.returncode, err.splitlines()[-1]) == (128 + number, "ranet: Stopped.")
    assert not list(out.iterdir())


def checkpoint_of_folders(folder: Path, root: Path) -> Path:
    """A checkpoint as ranet train writes it, of a network on a folder of three classes."""
    options = {"num_classes": 3, "image_size": 32}
    network = create_network("msdnet_tiny", **options)
    path = folder / "last.ckpt"
    recipe = {
        "network": {"name": "msdnet_tiny", "options": options},
        "data": {"name": "imagefolder", "root": str(root), "image_size": 32, "batch_size": 4},
    }
    weights = {f"network.{name}": value for name, value in network.state_dict().items()}
    torch.save({"ranet": recipe, "state_dict": weights, "epoch": 0}, path)
    return path


def test_classes_that_a_checkpoint_does_not_say_are_not_guessed(tmp_path: Path) -> None:
    """Class folders may have other names by now, so a checkpoint of before names were recorded has none."""
    root = tmp_path / "photos"
    path = checkpoint_of_folders(tmp_path, root)
    config = OmegaConf.create(
        {"checkpoint": str(path), "model": {"name": None}, "data": {"root": None, "eval_batch_size": None}}
    )
    for name in ("bee", "ant", "cat"):
        (root / "train" / name).mkdir(parents=True)
    alone = load_network_alone(config)
    assert alone.classes is None
    assert (alone.preprocessing.image_size, alone.preprocessing.resize) == (32, 37)

    ExitPolicy((0.0,) * 4).save(tmp_path / "policy.json")
    Image.new("RGB", (50, 40)).save(tmp_path / "image.png")
    options = [f"checkpoint={path}", "policy=policy.json", "images=image.png", "backend=torch", "device=cpu"]
    outcome = command("predict", *options, folder=tmp_path)
    assert outcome.status == 0, outcome.err
    (row,) = csv.DictReader(io.StringIO(outcome.out))
    assert row["class_name"] == ""
    assert row["exit"] == "1"


def test_published_weights_answer_without_the_images_of_their_data_set(tmp_path: Path) -> None:
    network = create_network("msdnet_tiny", num_classes=100)
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    metadata = {"network": {"fingerprint": network_fingerprint(network)}}
    ExitPolicy((0.0,) * 4, metadata=metadata).save(tmp_path / "policy.json")
    Image.new("RGB", (50, 40)).save(tmp_path / "image.png")
    options = ["checkpoint=weights.pth", "model=msdnet_tiny", "data=cifar100", "policy=policy.json", "backend=torch"]
    outcome = command("predict", *options, "device=cpu", "images=image.png", folder=tmp_path)
    assert outcome.status == 0, outcome.err
    (row,) = csv.DictReader(io.StringIO(outcome.out))
    names = ImageData("cifar100").class_names
    assert row["class_name"] == names[int(row["class_index"])]


@pytest.mark.parametrize(
    "code",
    [
        "import ranet.cli.verbs.predict, ranet.cli.options.shared",
        "import sys, ranet.cli.main as m; sys.argv = ['ranet', 'predict', 'engine=gone', 'images=a', 'policy=p']\n"
        "try: m.main()\nexcept SystemExit as end: assert end.code == 1",
    ],
)
def test_with_an_exported_folder_pytorch_is_not_imported(code: str, tmp_path: Path) -> None:
    check = f"{code}\nimport sys; assert not {{'torch', 'torchvision', 'onnx', 'matplotlib'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", check], check=True, cwd=tmp_path, capture_output=True)


@pytest.mark.slow
@pytest.mark.skipif(not find_spec("onnxruntime") or not find_spec("onnx"), reason="needs the extra onnx")
def test_an_exported_folder_answers_alike_without_pytorch(folder: Path, tmp_path: Path) -> None:
    export = ["checkpoint=run", "policy=policies", f"output={tmp_path / 'engine'}"]
    outcome = command("export", *export, folder=folder)
    assert outcome.status == 0, outcome.err
    rows = answered("images=images", "budget=75%", folder=folder)
    code = "import sys; sys.modules['torch'] = None; import ranet.cli.main as m; m.main()"
    options = [f"engine={tmp_path / 'engine'}", "images=images", "budget=75%", "backend=onnxruntime"]
    run = [sys.executable, "-c", code, "predict", *options]
    process = subprocess.run(run, cwd=folder, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    alike = list(csv.DictReader(io.StringIO(process.stdout)))
    for row, other in zip(rows, alike, strict=True):
        assert float(row.pop("probability")) == pytest.approx(float(other.pop("probability")), rel=1e-4)
        assert row == other


@pytest.mark.slow
def test_who_reads_only_the_first_rows_hears_no_complaint(folder: Path) -> None:
    options = ["checkpoint=run", "policy=policies", "backend=torch", "device=cpu"]
    names = ",".join(["images"] * 40)
    process = start("predict", *options, f"images=[{names}]", folder=folder)
    assert process.stdout is not None
    assert process.stdout.readline() == "image,class_name,class_index,probability,exit,cost_macs\n"
    process.stdout.close()
    process.stdout = None
    _, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (141, LOADING)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_said(folder: Path) -> None:
    options = ["checkpoint=run", "policy=policies", "images=images", "backend=torch", "device=cpu"]
    with Path("/dev/full").open("w") as full:
        process = subprocess.run(
            [Path(sys.executable).with_name("ranet"), "predict", *options],
            cwd=folder,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert process.returncode == 1
    said = "ranet: Standard output cannot be written (No space left on device); free some space, and do it again.\n"
    assert process.stderr == LOADING + said
