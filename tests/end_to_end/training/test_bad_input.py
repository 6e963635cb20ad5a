"""What a user can do wrong: one sentence on standard error, a status, and nothing half written."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ranet.calibration import ExitPolicy
from ranet.models import create_network
from tests.end_to_end.commands import SHORT, SMALL, content, ranet, start, train


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what commands are given: two runs, weights, policies, and folders of images."""
    folder = tmp_path_factory.mktemp("runs")
    train(*SMALL, "evaluate=false", "run=good", folder=folder)
    train(*SMALL, "evaluate=false", "data.validation_size=0", "run=without_validation", folder=folder)
    torch.save(create_network("ranet_tiny").state_dict(), folder / "ranet.pth")
    (folder / "empty.ckpt").touch()
    ExitPolicy((0.5, 0.5, 0.5)).save(folder / "four_exits.json")
    (folder / "empty").mkdir()
    (folder / "damaged" / "cifar-10-batches-py").mkdir(parents=True)
    for name in ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"):
        (folder / "damaged" / "cifar-10-batches-py" / name).write_bytes(b"no pickle")
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            (folder / "photos" / split / name).mkdir(parents=True)
            Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(folder / "photos" / split / name / "1.png")
    return folder


#: More, of names and forms, are in tests/end_to_end/command_line/test_before_pytorch.py.
CASES: dict[str, tuple[int, str]] = {
    # options
    "train trainer.max_epoch=3": (2, "Unknown option of trainer 'max_epoch'; did you mean max_epochs"),
    "calibrate checkpoint=good --budget=50%": (2, "Options are written NAME=VALUE: budget=VALUE and not --budget=50%"),
    "train +model.foo=1": (1, "Unknown option of ranet 'foo'"),
    "networks pattern=resnet": (1, "Unknown network 'resnet'; did you mean"),
    "costs model=as_trained": (1, "choose the network with model=NAME"),
    # values
    "train compile=yes": (1, "Unknown compile 'yes'"),
    "train compile=reduce_overhead": (1, "Unknown compile 'reduce_overhead'; did you mean reduce-overhead"),
    "train channels_last=maybe": (1, "channels_last=maybe must be true or false"),
    "train optim.label_smoothing=1": (1, "label_smoothing=1 must be at least 0 and less than 1"),
    "train optim.ema.decay=1": (1, "optim.ema.decay=1 must be above 0 and below 1"),
    "train optim.augmentation.mixup=-1": (1, "optim.augmentation.mixup=-1 must be 0 .off. or a positive number"),
    "train optim.decay_norm_and_bias=never": (1, "optim.decay_norm_and_bias=never must be true or false"),
    "train evaluate=flase": (1, "evaluate=flase must be true or false"),
    "calibrate checkpoint=good budget=50% test=maybe": (1, "test=maybe must be true or false"),
    "train trainer.max_epochs=0": (1, "trainer.max_epochs=0 must be an integer of at least 1"),
    "train trainer.accelerator=abacus": (1, "The options of trainer cannot be used: .*'abacus'"),
    "train +trainer.foo=1": (1, "The options of trainer cannot be used: .*'foo'"),
    "train optim.optimizer.lr=-1": (1, "The optimizer cannot be made from its options: Invalid learning rate"),
    "train optim.optimizer._target_=torch.optim.Foo": (1, "The options of optim.optimizer cannot be used"),
    "train optim.schedule.milestones=[150]": (1, "milestones=.150. must be increasing shares"),
    "train optim=cosine": (1, "warmup_epochs=1 must be .* less than 1, the number of epochs"),
    "train optim.exit_weights=[1,2]": (1, "exit_weights has 2 weights, but the network has 6 exits"),
    "train logger.wandb.mode=sometimes": (1, "Unknown logger.wandb.mode 'sometimes'"),
    # data
    "train data=cifar10 data.root=nowhere": (1, "data.root .*data.download=true"),
    "train data=cifar10 data.root=empty": (1, "data.root .*data.download=true"),
    "train data=cifar10 data.root=damaged": (1, "damaged/cifar-10-batches-py"),
    "train data=imagefolder data.root=nowhere": (1, "nowhere/train.*data.root"),
    "train data=imagefolder data.root=empty": (1, "empty/train.*data.root"),
    "train data.validation_size=5000": (1, "data.validation_size=5000 cannot be held out"),
    # networks that cannot be built
    "train model=ranet model.growth=1": (1, "leaves no channels for fusion"),
    "train model=msdnet_tiny model.growth_factors=[1]": (1, "need one factor for each scale"),
    "train model=msdnet_tiny model.blocks=1": (1, "1 layers cannot work on 3 scales"),
    "train data.image_size=8 data.min_size=4 data.max_size=6": (1, "Images of 8 pixels are too small"),
    "train model.num_classes=5": (1, "model.num_classes=5 is less than the 10 classes"),
    # checkpoints
    "evaluate checkpoint=good run=good": (1, "good holds the record of ranet train; choose another folder"),
    "evaluate checkpoint=empty": (1, "The folder empty holds no checkpoint"),
    "evaluate checkpoint=3": (1, "There is no run folder or checkpoint file 3"),
    "evaluate checkpoint=empty.ckpt": (1, "is not a checkpoint that can be read"),
    "evaluate checkpoint=ranet.pth": (1, "was not written by ranet train"),
    "evaluate checkpoint=ranet.pth model=msdnet_tiny": (1, "add data=cifar10 or another data set"),
    "evaluate checkpoint=ranet.pth model=msdnet_tiny data=digits": (1, "is of another network than this MSDNet"),
    "evaluate checkpoint=good model=ranet_tiny data=digits": (1, "knows its network; remove model="),
    "evaluate checkpoint=good data=imagefolder data.root=photos data.image_size=32": (
        1,
        "photos/val has other classes than the network was trained on",
    ),
    # weights
    "train weights=nowhere.pth": (1, "There is no file or run folder nowhere.pth"),
    "evaluate weights=good model=msdnet_tiny data=digits": (1, "use checkpoint= in place of weights= and model="),
    "train weights=good model=ranet_tiny": (1, r"The weights good do not fit this RANet: \d+ tensors are missing"),
    "evaluate weights=ranet.pth data=digits": (1, "do not say which model they are for; add model=NAME"),
    "train weights=good technique=imta_two_stage technique.first_stage_run=good": (1, "remove weights="),
    "export weights=ranet.pth model=ranet_tiny": (1, "do not say which data they are for; add data=NAME"),
    "train model=resnet20_cifar technique=ge": (1, "need several exits; this network has one"),
    "evaluate weights=ranet.pth checkpoint=good": (1, "Say either checkpoint= or weights=, not both"),
    "train weights=resnet5O": (1, "Unknown file, run folder or published weights 'resnet5O'; did you mean"),
    "evaluate weights=ranet.pth model=msdnet_tiny data=digits": (1, "do not fit this MSDNet"),
    # policies and budgets
    "evaluate checkpoint=good policy=nowhere.json": (1, "'nowhere.json' does not exist"),
    "evaluate checkpoint=good policy=four_exits.json": (1, "The policy is for 4 exits and the scores have 2"),
    "calibrate checkpoint=good budget=cheap": (1, "budget=cheap must be a number"),
    "calibrate checkpoint=good budget=1e3": (1, r"possible budgets are [\d,]+ macs .* to [\d,]+ macs"),
    "calibrate checkpoint=good budget=0.01 unit=fraction": (1, "possible budgets are .* to 1 as a fraction"),
    "calibrate checkpoint=good budget=0.9 unit=fraction run=good output=p.json": (1, "the record of ranet train"),
    "calibrate checkpoint=good budget=nan": (1, "must be a positive number, not nan; possible budgets are"),
    "calibrate checkpoint=without_validation budget=0.9 unit=fraction": (1, "data.validation_size=0"),
    "calibrate checkpoint=good budget=0.9 unit=fraction output=/proc/policy.json": (1, "/proc"),
}


@pytest.mark.parametrize(
    "line",
    # Every other one on all days, to stay within minutes; the others among the slow tests.
    [pytest.param(line, marks=[pytest.mark.slow] if i % 2 else []) for i, line in enumerate(CASES)],
)
def test_a_mistake_is_said_in_one_sentence_and_leaves_nothing(line: str, runs: Path) -> None:
    status, message = CASES[line]
    before = content(runs)
    outcome = ranet(*shortened(line.split(" ")), folder=runs)
    assert outcome.status == status, outcome.err
    assert re.search(f"^ranet: .*{message}", outcome.err)
    assert outcome.err.count("\n") == 1
    assert content(runs) == before


def shortened(words: list[str]) -> list[str]:
    """A training shortened: should the mistake go through, it takes a second."""
    if words[0] != "train":
        return words
    said = {word.split("=")[0] for word in words}
    digits = not any(word.startswith(("data=cifar", "data=image")) for word in words)
    short = [option for option in SHORT if digits or "copies" not in option]
    return [words[0], *(option for option in short if option.split("=")[0] not in said), *words[1:]]


def test_wandb_online_without_an_account_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    outcome = ranet("train", *SHORT, *SMALL, "logger.wandb.mode=online", "run=run", folder=tmp_path)
    assert outcome.status == 1
    assert "\nranet: Logging in to wandb failed: " in f"\n{outcome.err}"
    assert "wandb login" in outcome.err
    assert not content(tmp_path / "run")


@pytest.mark.slow
def test_a_mistake_has_no_traceback_in_a_process_of_its_own(tmp_path: Path) -> None:
    process = start("train", "data=cifar10", "data.root=nowhere", "run=run", folder=tmp_path)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "data.download=true" in err
    assert len(err.splitlines()) == 2
    assert err.splitlines()[0] == "ranet train: loading PyTorch ..."  # at once, because PyTorch takes seconds
    assert not out
    assert not content(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ([], 2, "usage: ranet VERB"),
        (["--help"], 0, "usage: ranet VERB"),
        (["train", "--help"], 0, "# Folder of this run."),
        (["train", "--help"], 0, "technique    ge, ge_isc_ofa"),
        (["calibrate", "--help"], 0, "# Share of the validation images for fitting a temperature"),
        (["evaluate", "-h"], 0, "usage: ranet evaluate [OPTION=VALUE ...]\n\ncurves, tables and figures"),
        (["predict", "--help"], 0, "# The deepest exit to use, from 1"),
        (["predict", "engine=folder", "--help"], 0, "usage: ranet predict"),
        (["networks", "--help"], 0, "usage: ranet networks"),
        (["costs", "--help"], 0, "ranet_cifar_anytime"),
        (["compare", "--help"], 0, "usage: ranet compare RUN_OR_SWEEP_FOLDER"),
        (["train", "--cfg", "job"], 0, "milestones:"),
    ],
)
def test_help(arguments: list[str], status: int, message: str, tmp_path: Path) -> None:
    outcome = ranet(*arguments, folder=tmp_path)
    assert outcome.status == status
    assert message in outcome.out
    assert not outcome.err
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_loss_that_explodes_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    explode = ["trainer.max_epochs=2", "optim.schedule.milestones=[0.5]", "optim.schedule.factor=1e20"]
    outcome = ranet("train", *SHORT, *SMALL, *explode, "run=run", folder=tmp_path)
    assert outcome.status == 1
    # Three steps an epoch: the first with the huge rate is step 4, and step 5 sees what it did.
    assert outcome.err == (
        "ranet: The loss was not a finite number at step 5 (epoch 2); the checkpoints of the epochs before are kept; "
        "try a smaller optim.optimizer.lr or a longer warm-up.\n"
    )
    for name in ("last.ckpt", "best.ckpt"):
        checkpoint = torch.load(tmp_path / "run" / "checkpoints" / name, weights_only=True)
        assert checkpoint["global_step"] == 3
        assert all(value.isfinite().all() for value in checkpoint["state_dict"].values())
    assert not (tmp_path / "run" / "evaluation").exists()
    outcome = ranet("evaluate", "checkpoint=run", "run=evaluation", folder=tmp_path)
    assert outcome.status == 0, outcome.err
