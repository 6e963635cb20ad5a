import functools
import math
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor, nn

from ranet.errors import UserError
from ranet.models.checkpoint_files import read_checkpoint
from ranet.training import load_trained
from ranet.training.recipe.averaging import AveragedWeights, move_average
from tests.training.examples import rows, small_classifier, small_data, small_network, small_trainer
from tests.training.run.test_resume import KillAfterWriting, KillAt, Killed, NoisyImages

DECAY = 0.6  # from the fifth step on; below it (1 + t) / (10 + t) is smaller


class Witness(Callback):
    """Keeps the weights and buffers of the network at the beginning and after each step."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Tensor]] = []

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.keep(module)

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *_: Any) -> None:
        self.keep(module)

    def keep(self, module: pl.LightningModule) -> None:
        self.seen.append({name: value.clone() for name, value in module.network.state_dict().items()})

    def average(self, steps: int) -> dict[str, Tensor]:
        """By the definition, in double precision."""
        average = {name: value.double() for name, value in self.seen[0].items()}
        for t in range(1, steps + 1):
            decay = min(DECAY, (1 + t) / (10 + t))
            for name, value in self.seen[t].items():
                average[name] = decay * average[name] + (1 - decay) * value if value.is_floating_point() else value
        return average


def train(folder: Path, *callbacks: Callback, resume: bool = False, **options: Any) -> pl.LightningModule:
    """Two epochs of four steps."""
    pl.seed_everything(7, verbose=False)
    last = folder / "checkpoints" / "last.ckpt"
    step = int(read_checkpoint(last)["global_step"]) if resume else None
    classifier = options.pop("classifier", None) or small_classifier()
    trainer = small_trainer(folder, 2, NoisyImages(), *callbacks, resume_step=step, **options)
    trainer.fit(classifier, datamodule=small_data(), ckpt_path=last if resume else None, weights_only=True)
    return classifier


def of_network(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix("network."): value for name, value in state.items() if name.startswith("network.")}


def assert_close(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value.to(ours[name].dtype), rtol=1e-5, atol=1e-6, msg=name)


def assert_equal(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    assert [name for name, value in theirs.items() if not torch.equal(ours[name], value)] == []


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Witness, pl.LightningModule]:
    """A run with averaging that was never killed, what was seen of it, and the module that it left."""
    folder, witness = tmp_path_factory.mktemp("whole"), Witness()
    classifier = train(folder, witness, AveragedWeights(DECAY))
    return folder, witness, classifier


def test_checkpoints_hold_the_average_over_the_steps(whole: tuple[Path, Witness, pl.LightningModule]) -> None:
    folder, witness, _ = whole
    assert len(witness.seen) == 9
    for name in ("best.ckpt", "last.ckpt"):
        checkpoint = read_checkpoint(folder / "checkpoints" / name)
        step = checkpoint["global_step"]
        assert step in (4, 8)
        assert_close(of_network(checkpoint["state_dict"]), witness.average(step))
        assert_equal(of_network(checkpoint["current_model_state"]), witness.seen[step])
        assert checkpoint["averaging_state"]["n_averaged"] == step
        loaded = load_trained(folder / "checkpoints" / name).network
        assert_equal(loaded.state_dict(), of_network(checkpoint["state_dict"]))


def test_the_module_is_left_with_the_average(whole: tuple[Path, Witness, pl.LightningModule]) -> None:
    folder, _, classifier = whole
    last = read_checkpoint(folder / "checkpoints" / "last.ckpt")
    assert_equal(classifier.network.state_dict(), of_network(last["state_dict"]))


def test_counts_of_batches_are_whole_and_those_of_the_training(
    whole: tuple[Path, Witness, pl.LightningModule],
) -> None:
    counts = {name: value for name, value in whole[2].network.state_dict().items() if name.endswith("batches_tracked")}
    assert counts
    assert {value.item() for value in counts.values()} == {8}


def test_validation_sees_the_average(whole: tuple[Path, Witness, pl.LightningModule]) -> None:
    folder, *_ = whole
    network = load_trained(folder / "checkpoints" / "last.ckpt").network
    with torch.no_grad():
        batches = [(network(images).argmax(-1) == labels) for images, labels in small_data().val_dataloader()]
    logged = [row for row in rows(folder) if row["epoch"] == "2" and row["val/loss"]]
    for k, accuracy in enumerate(torch.cat(batches, dim=1).double().mean(1).tolist(), start=1):
        assert float(logged[0][f"val/accuracy_exit{k}"]) == pytest.approx(accuracy, abs=1e-6)


def test_training_is_the_same_as_without(whole: tuple[Path, Witness, pl.LightningModule], tmp_path: Path) -> None:
    folder, witness, _ = whole
    plain = Witness()
    train(tmp_path, plain)
    for ours, theirs in zip(witness.seen, plain.seen, strict=True):
        assert_equal(ours, theirs)
    named = [name for name in rows(folder)[0] if name.startswith("train/")]
    for row, other in zip(rows(folder), rows(tmp_path), strict=True):
        assert [row[name] for name in named] == [other[name] for name in named]
    ours, theirs = (read_checkpoint(run / "checkpoints" / "last.ckpt") for run in (folder, tmp_path))
    assert str(ours["optimizer_states"]) == str(theirs["optimizer_states"])


POINTS: dict[str, dict[str, Any]] = {
    "as soon as a checkpoint is written": {"checkpoint_io": KillAfterWriting("last.ckpt", 1)},
    "in the midst of an epoch": {"callback": KillAt("on_train_batch_end", 6)},
    "while the averaged weights are validated": {"callback": KillAt("on_validation_batch_end", 8)},
    "after validation": {"callback": KillAt("on_validation_end", 8)},
}


# Every other one on all days, the others among the slow tests.
@pytest.mark.parametrize(
    "point", [pytest.param(point, marks=[] if i % 2 else [pytest.mark.slow]) for i, point in enumerate(POINTS)]
)
def test_a_killed_run_resumes_exactly(
    point: str, whole: tuple[Path, Witness, pl.LightningModule], tmp_path: Path
) -> None:
    callbacks = [POINTS[point]["callback"]] if "callback" in POINTS[point] else []
    with pytest.raises(Killed):
        train(tmp_path, AveragedWeights(DECAY), *callbacks, checkpoint_io=POINTS[point].get("checkpoint_io"))
    train(tmp_path, AveragedWeights(DECAY), resume=True)
    assert rows(tmp_path) == rows(whole[0])
    for name in ("best.ckpt", "last.ckpt"):
        ours, theirs = (read_checkpoint(run / "checkpoints" / name) for run in (tmp_path, whole[0]))
        assert ours["global_step"] == theirs["global_step"]
        for part in ("state_dict", "current_model_state", "averaging_state"):
            assert_equal(ours[part], theirs[part])


def test_it_goes_with_the_other_options_of_a_trainer(tmp_path: Path) -> None:
    """Accumulated gradients, DistributedDataParallel and no validation images."""
    witness = Witness()
    try:
        train(
            tmp_path,
            witness,
            AveragedWeights(DECAY),
            accumulate_grad_batches=2,
            strategy="ddp",
            devices=1,
            validates=False,
        )
    finally:
        torch.distributed.destroy_process_group()
    # Four steps of two batches; the batches of a step change the statistics of batch normalisation, too.
    witness.seen = witness.seen[::2]
    last = read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")
    assert last["averaging_state"]["n_averaged"] == len(witness.seen) - 1 == 4
    assert_close(of_network(last["state_dict"]), witness.average(4))


def test_it_goes_with_a_frozen_backbone(tmp_path: Path) -> None:
    network = small_network()
    network.requires_grad_(False)
    network.heads.requires_grad_(True)
    before = {name: value.detach().clone() for name, value in network.named_parameters()}
    train(tmp_path, AveragedWeights(DECAY), classifier=small_classifier(network))
    after = dict(load_trained(tmp_path / "checkpoints" / "last.ckpt").network.named_parameters())
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {name for name in before if name.startswith("heads.")}


@pytest.mark.slow  # compiling takes seconds
def test_it_goes_with_a_compiled_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    witness = Witness()
    # Batches of one size: each further one is compiled anew, which takes seconds.
    few = {"limit_train_batches": 3, "limit_val_batches": 1}
    train(tmp_path, witness, AveragedWeights(DECAY), classifier=small_classifier(compile=True), **few)
    last = read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")
    assert_close(of_network(last["state_dict"]), witness.average(6))


def test_values_that_do_not_change_keep_their_bits() -> None:
    current = nn.BatchNorm2d(64)
    nn.init.normal_(current.weight)
    average = nn.BatchNorm2d(64)
    average.load_state_dict(current.state_dict())
    for decay in (0.0, 0.3, 0.9, 0.999):
        move_average(average, current, decay)
        assert_equal(average.state_dict(), current.state_dict())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_no_step_waits_for_a_gpu() -> None:
    average, current = small_network().cuda(), small_network(seed=1).cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        move_average(average, current, 0.9)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("decay", [0, 1, -0.1, 1.5, math.nan, "0.9", True, None])
def test_a_decay_out_of_range_is_named(decay: Any) -> None:
    with pytest.raises(UserError, match=r"optim.ema.decay=.* must be above 0 and below 1"):
        AveragedWeights(decay)
