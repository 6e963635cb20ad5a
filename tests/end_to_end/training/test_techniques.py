"""Every technique from the command line, on both networks; two stages, stopped and gone on with."""

import csv
import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor
from torchvision.models import get_model

import ranet
from ranet.models import create_network
from tests.end_to_end.command_line.test_configuration import CONF
from tests.end_to_end.commands import SHORT, SMALL, content, train
from tests.end_to_end.commands import ranet as command

#: Those of added exits are tested in test_heads.py.
OF_BACKBONES = {"heads", "joint", "mixed"}
TECHNIQUES = sorted({path.stem for path in (CONF / "technique").glob("*.yaml")} - OF_BACKBONES)
COLLABORATING = {"isc", "isc_ofa", "ge_isc_ofa", "imta_two_stage"}
SMALL_RANET = ["model=ranet_tiny", "model.blocks=1", "model.block_step=1"]
TWO_STAGES = [*SMALL, "technique=imta_two_stage", "trainer.max_epochs=3", "evaluate=false", "run=run"]
FOUR_EPOCHS = [*TWO_STAGES, "technique.first_stage_share=0.5", "trainer.max_epochs=4"]


def state(checkpoint: Path) -> dict[str, Tensor]:
    return torch.load(checkpoint, weights_only=True)["state_dict"]


def test_all_the_techniques_are_there() -> None:
    assert {"plain", "ge", "isc", "ofa", "ge_isc_ofa", "imta_two_stage"} <= set(TECHNIQUES)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The run of a technique on the small MSDNet, which is trained when a test first asks for it."""
    folder = tmp_path_factory.mktemp("trained")

    @cache
    def run(technique: str) -> Path:
        options = [f"technique={technique}", "trainer.max_epochs=2", "evaluate=false", f"run={technique}"]
        train(*SMALL, *options, folder=folder)
        return folder / technique

    return run


# The technique with all parts every day; the others are among the slow tests.
EACH = pytest.mark.parametrize(
    "technique",
    [pytest.param(name, marks=[] if name == "ge_isc_ofa" else [pytest.mark.slow]) for name in TECHNIQUES],
)


@EACH
def test_what_a_technique_trained_is_calibrated_and_evaluated(
    technique: str, trained: Callable[[str], Path], tmp_path: Path
) -> None:
    check_what_was_trained(trained(technique), technique, tmp_path)


@EACH
def test_a_technique_trains_a_ranet_and_measures_it(technique: str, tmp_path: Path) -> None:
    train(*SMALL_RANET, f"technique={technique}", "trainer.max_epochs=2", "run=run", folder=tmp_path)
    costs = json.loads((tmp_path / "run" / "evaluation" / "costs.json").read_text())
    assert (costs["macs_per_exit_alone"] == costs["macs_per_exit"]) == (technique in COLLABORATING)
    assert costs["macs_per_exit"] == check_what_was_trained(tmp_path / "run", technique, tmp_path)


def check_what_was_trained(run: Path, technique: str, folder: Path) -> list[int]:
    """Calibrate and evaluate a run; return the multiply-adds of its exits."""
    network = ranet.load_trained(run).network
    assert isinstance(network, ranet.InlineCollaboration) == (technique in COLLABORATING)
    costs = ranet.measure_costs(network)
    assert (costs.macs_per_exit_alone == costs.macs_per_exit) == (technique in COLLABORATING)
    outcome = command(
        *("calibrate", f"checkpoint={run}", "budget=0.9", "unit=fraction", "output=policy.json"),
        "alternatives=false",
        folder=folder,
    )
    assert outcome.status == 0, outcome.err
    assert ranet.load_policy(folder / "policy.json").metadata["cost_per_exit"] == costs.lazy_macs_per_exit
    outcome = command("evaluate", f"checkpoint={run}", "policy=policy.json", "run=seen", folder=folder)
    assert outcome.status == 0, outcome.err
    return costs.macs_per_exit


@pytest.mark.slow
def test_each_technique_learns_something_else(trained: Callable[[str], Path]) -> None:
    learned = {}
    for technique in TECHNIQUES:
        weights = state(trained(technique) / "checkpoints" / "last.ckpt")
        prefix = "network.network." if technique in COLLABORATING else "network."
        learned[technique] = torch.cat([weights[f"{prefix}heads.{k}.linear.weight"].flatten() for k in range(2)])
    for one in TECHNIQUES:
        for other in TECHNIQUES:
            assert one == other or not torch.equal(learned[one], learned[other]), (one, other)


@pytest.fixture(scope="module")
def two_stages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two_stages")
    train(*TWO_STAGES, folder=folder)
    return folder / "run"


@pytest.fixture(scope="module")
def four_epochs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two stages that was never stopped."""
    folder = tmp_path_factory.mktemp("four_epochs")
    train(*FOUR_EPOCHS, folder=folder)
    return folder / "run"


class TestTwoStages:
    def test_the_frozen_backbone_is_as_the_first_stage_left_it(self, two_stages: Path) -> None:
        first = state(two_stages / "stage1" / "checkpoints" / "best.ckpt")
        second = state(two_stages / "checkpoints" / "last.ckpt")
        frozen = trained = 0
        for name, value in first.items():
            if not name.startswith("network."):
                continue
            now = second[name.replace("network.", "network.network.", 1)]
            if ".linear." in name:
                trained += not torch.equal(value, now)
            else:
                assert torch.equal(value, now), name
                frozen += 1
        assert any("running_mean" in name for name in first)
        assert trained == 4  # weight and bias of two heads
        assert frozen > 50
        last_linear = {name: value for name, value in first.items() if "heads.1.linear" in name}
        assert len(last_linear) == 2
        for name, value in last_linear.items():
            assert torch.equal(second[f"teacher.linear.{name.rsplit('.', 1)[1]}"], value), "the teacher stays"

    def test_the_stages_share_the_epochs_and_each_is_a_run(self, two_stages: Path) -> None:
        assert OmegaConf.load(two_stages / "config.yaml").trainer.max_epochs == 3
        assert OmegaConf.load(two_stages / "stage1" / "config.yaml").trainer.max_epochs == 2
        for folder, epochs in ((two_stages / "stage1", 2), (two_stages, 1)):
            with (folder / "metrics.csv").open(newline="") as file:
                assert sum(bool(row["val/loss"]) for row in csv.DictReader(file)) == epochs
        assert not isinstance(ranet.load_trained(two_stages / "stage1").network, ranet.InlineCollaboration)

    @pytest.mark.slow
    @pytest.mark.parametrize("stopped_in", ["first", "between", "second"])
    def test_each_stage_goes_on_where_it_was_stopped(
        self, stopped_in: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, four_epochs: Path
    ) -> None:
        """Stopped after a checkpoint: the steps since then are lost, and done again."""
        seen = 0

        def stop(self: Any, *_: Any) -> None:
            nonlocal seen
            seen += 1  # the beginning of an epoch, the first stage's and then the second's
            if seen == {"first": 2, "between": 3, "second": 4}[stopped_in]:
                raise _StoppedError

        with monkeypatch.context() as patch:
            patch.setattr("ranet.training.RandomState.on_train_epoch_start", stop)
            with pytest.raises(_StoppedError):
                train(*FOUR_EPOCHS, folder=tmp_path)
        assert (tmp_path / "run/checkpoints/last.ckpt").exists() == (stopped_in == "second")
        train(*FOUR_EPOCHS, "resume=true", folder=tmp_path)
        for name in ("stage1/checkpoints/last.ckpt", "checkpoints/last.ckpt", "checkpoints/best.ckpt"):
            whole, gone_on = state(four_epochs / name), state(tmp_path / "run" / name)
            assert list(whole) == list(gone_on)
            for weight, value in whole.items():
                assert torch.equal(gone_on[weight], value), (name, weight)

    def test_a_finished_run_can_be_the_first_stage(self, two_stages: Path, tmp_path: Path) -> None:
        train(*TWO_STAGES, f"technique.first_stage_run={two_stages / 'stage1'}", folder=tmp_path)
        assert not (tmp_path / "run" / "stage1").exists()
        first = state(two_stages / "stage1" / "checkpoints" / "best.ckpt")
        second = state(tmp_path / "run" / "checkpoints" / "last.ckpt")
        assert torch.equal(second["network.network.base.0.conv.weight"], first["network.base.0.conv.weight"])

    def test_a_missing_first_stage_is_said_before_anything_starts(self, two_stages: Path, tmp_path: Path) -> None:
        shutil.copytree(two_stages, tmp_path / "run")
        shutil.move(tmp_path / "run" / "stage1", tmp_path / "killed")
        last = torch.load(tmp_path / "killed" / "checkpoints" / "last.ckpt", weights_only=True)
        torch.save({**last, "epoch": 0}, tmp_path / "killed" / "checkpoints" / "last.ckpt")
        before = content(tmp_path)
        for arguments, message in (
            (["resume=true"], "The first stage is missing"),
            ([], "holds a training run already; add resume=true"),
            (["run=new", "technique.first_stage_run=nowhere"], "The first stage is missing: There is no run folder"),
            (["run=new", f"technique.first_stage_run={tmp_path / 'run'}"], "is of another network than model=msdnet"),
            (
                ["run=new", f"technique.first_stage_run={two_stages / 'stage1'}", "data.split_seed=7"],
                "was trained with data.split_seed=0, not 7: it may have learned from images that are held out now",
            ),
            (["run=new", f"technique.first_stage_run={tmp_path / 'killed'}"], "has had 1 of its 2 epochs"),
            (["run=new", "trainer.max_epochs=1"], "trainer.max_epochs=1 must be at least 2"),
        ):
            outcome = command("train", *_short(*TWO_STAGES, *arguments), folder=tmp_path)
            assert outcome.status == 1
            assert message in outcome.err
            assert outcome.err.count("\n") == 1
            assert content(tmp_path) == before


class _StoppedError(Exception):
    pass


def _short(*options: str) -> list[str]:
    """The options of a short run, but for those that are said."""
    said = {option.split("=")[0] for option in options}
    return [*(option for option in SHORT if option.split("=")[0] not in said), *options]


class TestTeachers:
    def test_a_run_teaches_and_stays_as_it_is(self, two_stages: Path, tmp_path: Path) -> None:
        before = content(two_stages)
        options = [*SMALL, "technique=ofa", "evaluate=false"]
        train(*options, "run=itself", folder=tmp_path)
        train(*options, f"technique.teacher={two_stages}", "technique.teach_last=true", "run=taught", folder=tmp_path)
        assert content(two_stages) == before
        itself, taught = (state(tmp_path / run / "checkpoints" / "last.ckpt") for run in ("itself", "taught"))
        assert list(itself) == list(taught), "the teacher is not stored"
        assert not torch.equal(itself["network.heads.1.linear.weight"], taught["network.heads.1.linear.weight"])

    def test_a_torchvision_classifier_teaches(self, tmp_path: Path) -> None:
        torch.save(get_model("squeezenet1_1", num_classes=10).state_dict(), tmp_path / "weights.pth")
        train(
            *(*SMALL, "technique=ofa", "technique.teacher=torchvision/squeezenet1_1"),
            *("technique.teacher_weights=weights.pth", "evaluate=false", "run=run"),
            folder=tmp_path,
        )
        assert not any("teacher" in name for name in state(tmp_path / "run" / "checkpoints" / "last.ckpt"))

    @pytest.mark.slow
    def test_one_that_does_not_fit_is_refused(self, two_stages: Path, tmp_path: Path) -> None:
        torch.save(get_model("squeezenet1_1", num_classes=3).state_dict(), tmp_path / "three.pth")
        torch.save(create_network("msdnet_tiny").state_dict(), tmp_path / "msdnet.pth")
        torch.save({"model": get_model("squeezenet1_1").state_dict(), "epoch": 3}, tmp_path / "training.pth")
        torch.save(get_model("squeezenet1_1", num_classes=10).state_dict(), tmp_path / "ten.pth")
        before = content(tmp_path)
        tiny = ["data.image_size=12", "data.min_size=4", "data.max_size=8"]
        squeezenet = "technique.teacher=torchvision/squeezenet1_1"
        for options, message in (
            ([f"technique.teacher={two_stages}", "model.num_classes=20"], "has 10 classes and the network 20"),
            (["technique.teacher=nowhere"], "There is no run folder or checkpoint file nowhere"),
            ([squeezenet, "technique.teacher_weights=three.pth"], "squeezenet1_1 with 10 classes"),
            ([squeezenet, "technique.teacher_weights=msdnet.pth"], "not the state dictionary of torchvision's"),
            ([squeezenet, "technique.teacher_weights=training.pth"], "not the state dictionary of torchvision's"),
            (["technique.teacher=last-exit"], "A teacher is last_exit, first_stage, torchvision/NAME, a run folder"),
            (
                [squeezenet, "technique.teacher_weights=ten.pth", *tiny],
                "cannot read images of shape (3, 12, 12): ",
            ),
            ([squeezenet, "technique.teacher_weights=IMAGENET1K_V9"], "did you mean IMAGENET1K_V1"),
            ([squeezenet], "A teacher must have trained weights"),
            (["technique.teacher=torchvision/squeezenet"], "did you mean squeezenet1_"),
            ([f"technique.teacher={two_stages}", "technique.teacher_weights=three.pth"], "is for torchvision's"),
        ):
            outcome = command("train", *_short(*SMALL, "technique=ofa", *options, "run=run"), folder=tmp_path)
            assert outcome.status == 1
            assert message in outcome.err, outcome.err
            assert content(tmp_path) == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("technique", "option"),
    [
        ("ofa", "technique.gamma=0.9"),
        ("ofa", "technique.temperature=1"),
        ("isc", "technique.detach=false"),
        ("ge", "technique.equilibrium=coarsest"),
    ],
)
def test_each_option_of_a_technique_changes_what_is_learned(
    technique: str, option: str, trained: Callable[[str], Path], tmp_path: Path
) -> None:
    options = [f"technique={technique}", option, "trainer.max_epochs=2", "evaluate=false", "run=changed"]
    train(*SMALL, *options, folder=tmp_path)
    learned = []
    for run in (trained(technique), tmp_path / "changed"):
        weights = state(run / "checkpoints" / "last.ckpt")
        learned.append(torch.cat([v.flatten().double() for name, v in weights.items() if name.endswith("weight")]))
    assert not torch.equal(*learned)
    if "detach" in option:
        network = ranet.load_trained(tmp_path / "changed").network
        assert isinstance(network, ranet.InlineCollaboration)
        assert not network.detach


def test_the_last_exit_learns_from_another_network_only_where_it_is_told_to(two_stages: Path, tmp_path: Path) -> None:
    learned = {}
    for option in ("true", "false"):
        teach = f"technique.teach_last={option}"
        train(*SMALL, "technique=ofa", f"technique.teacher={two_stages}", teach, "evaluate=false",
              f"run=taught_{option}", folder=tmp_path)  # fmt: skip
        learned[option] = state(tmp_path / f"taught_{option}" / "checkpoints" / "last.ckpt")[
            "network.heads.1.linear.weight"
        ]
    assert not torch.equal(learned["true"], learned["false"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("technique=isc data.batch_size=1", "Collaboration normalises over the images of a batch"),
        ("technique.equilibrium=coarse", "Unknown technique.equilibrium 'coarse'; did you mean coarsest"),
        ("technique.collaboration=perhaps", "technique.collaboration=perhaps must be true or false"),
        ("technique=ofa technique.gamma=2", "gamma=2 must be from 0 to 1"),
        ("technique=ofa technique.temperature=0", "temperature=0 must be a positive number"),
        ("technique=ofa technique.teach_last=true", "The last exit cannot teach itself"),
        ("technique.teach_last=true", "teacher_weights and teach_last need a technique.teacher"),
        ("technique.teacher=first_stage", "teacher=first_stage needs two stages"),
        ("technique=ofa technique.stages=2", "teacher=last_exit excludes two stages"),
        ("technique.stages=2", "A second stage needs collaboration or a teacher"),
        ("technique.stages=3", "technique.stages=3 must be 1 or 2"),
        ("technique=ge technique.first_stage_run=run", "first_stage_run needs two stages"),
        ("technique=imta_two_stage technique.first_stage_share=1", "must be between 0 and 1"),
        ("technique=ge model=msdnet_tiny model.blocks=1 model.base=3", "this network has one"),
        (
            "technique=imta_two_stage trainer.max_epochs=4 optim=cosine optim.schedule.warmup_epochs=2",
            "warmup_epochs=2",
        ),
    ],
)
def test_techniques_that_do_not_go_together_are_refused(options: str, message: str, tmp_path: Path) -> None:
    outcome = command("train", *_short(*options.split(), "run=run"), folder=tmp_path)
    assert outcome.status == 1, outcome.err
    assert message in outcome.err
    assert outcome.err.count("\n") == 1
    assert not content(tmp_path)
