import shutil
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import torch

from ranet.errors import UserError
from ranet.models import create_network
from ranet.training import WholeFiles, checkpoint_callbacks, find_checkpoint, load_trained
from tests.training.examples import OPTIONS, RECIPE, small_classifier, small_data, small_network, small_trainer


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training run of two epochs."""
    folder = tmp_path_factory.mktemp("run")
    classifier = small_classifier()
    small_trainer(folder, 2).fit(classifier, datamodule=small_data())
    torch.save(classifier.network.state_dict(), folder / "expected.pt")
    return folder


def test_a_checkpoint_is_read_without_running_code(run: Path) -> None:
    for name in ("last.ckpt", "best.ckpt"):
        checkpoint = torch.load(run / "checkpoints" / name, weights_only=True)
        assert checkpoint["ranet"] == RECIPE
        assert {"state_dict", "optimizer_states", "lr_schedulers", "global_step"} <= set(checkpoint)
    assert checkpoint["global_step"] in (4, 8)


def test_a_trained_network_is_rebuilt_from_its_checkpoint_alone(run: Path) -> None:
    trained = load_trained(run / "checkpoints" / "last.ckpt")
    expected = small_network(seed=5)
    expected.load_state_dict(torch.load(run / "expected.pt", weights_only=True))
    images = torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(trained.network(images), expected.eval()(images))
    assert (trained.recipe, trained.epoch) == (RECIPE, 2)


def test_best_is_preferred_to_last_and_a_file_is_itself(run: Path, tmp_path: Path) -> None:
    best, last = run / "checkpoints" / "best.ckpt", run / "checkpoints" / "last.ckpt"
    assert find_checkpoint(run) == find_checkpoint(run / "checkpoints") == best
    assert find_checkpoint(last) == last
    (tmp_path / "checkpoints").mkdir()
    shutil.copy(last, tmp_path / "checkpoints")
    assert find_checkpoint(tmp_path) == tmp_path / "checkpoints" / "last.ckpt"


def test_the_best_is_the_epoch_of_the_highest_mean_validation_accuracy(run: Path) -> None:
    trained = load_trained(run)
    right: dict[int, float] = {}
    for name in ("best.ckpt", "last.ckpt"):
        network = load_trained(run / "checkpoints" / name).network
        with torch.no_grad():
            batches = [(network(images).argmax(-1) == labels) for images, labels in small_data().val_dataloader()]
        right[name] = torch.cat(batches, dim=1).float().mean().item()
    assert right["best.ckpt"] >= right["last.ckpt"]
    score = torch.load(trained.path, weights_only=True)["callbacks"]
    assert [round(state["best_model_score"].item(), 6) for state in score.values() if state.get("monitor")] == [
        pytest.approx(right["best.ckpt"], abs=1e-6)
    ]


def broken(what: str, folder: Path) -> Path:
    path = folder / "run"
    match what:
        case "nothing":
            pass
        case "empty folder":
            path.mkdir()
        case "empty file":
            path.touch()
        case "text":
            path.write_text("epoch,loss\n1,2.0\n")
        case "half a checkpoint":
            torch.save({"ranet": RECIPE}, path)
            path.write_bytes(path.read_bytes()[:-100])
        case "code":
            torch.save({"ranet": Path("x")}, path)
        case "a tensor":
            torch.save(torch.zeros(3), path)
        case "weights alone":
            torch.save({"state_dict": create_network("msdnet", **OPTIONS).state_dict()}, path)
        case "another network":
            weights = {f"network.{name}": value for name, value in small_network().state_dict().items()}
            options = {**OPTIONS, "blocks": 3}
            recipe = {"network": {"name": "msdnet", "options": options}, "data": {}}
            torch.save({"ranet": recipe, "state_dict": weights, "epoch": 0}, path)
    return path


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("nothing", "There is no run folder or checkpoint file"),
        ("empty folder", "holds no checkpoint"),
        ("empty file", "is not a checkpoint that can be read"),
        ("text", "is not a checkpoint that can be read"),
        ("half a checkpoint", "is not a checkpoint that can be read"),
        ("code", "is not a checkpoint that can be read"),
        ("a tensor", "is not a checkpoint: it holds a Tensor"),
        ("weights alone", "was not written by ranet train"),
        ("another network", "are of another network"),
    ],
)
def test_what_is_no_checkpoint_is_said(what: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message) as caught:
        load_trained(broken(what, tmp_path))
    assert "\n" not in str(caught.value)


def test_a_checkpoint_that_cannot_be_written_to_its_end_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "last.ckpt"
    WholeFiles().save_checkpoint({"epoch": 1}, path)

    def full_disk(content: Any, file: BinaryIO) -> None:
        file.write(b"half of it")
        raise OSError("No space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(OSError, match="No space"):
        WholeFiles().save_checkpoint({"epoch": 2}, path)
    assert torch.load(path, weights_only=True) == {"epoch": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_checkpoints_do_not_pass_through_the_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def elsewhere(*_: Any, **__: Any) -> None:
        raise AssertionError("a rename from another disk is a copy")

    monkeypatch.setattr("tempfile.mkstemp", elsewhere)
    small_trainer(tmp_path, 1).fit(small_classifier(), datamodule=small_data())
    assert sorted(file.name for file in (tmp_path / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]


def test_a_moved_run_keeps_its_best_score(run: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(run, tmp_path / "moved")
    states = torch.load(moved / "checkpoints" / "last.ckpt", weights_only=True)["callbacks"]
    best = checkpoint_callbacks(moved / "checkpoints", validates=True)[0]
    state = states[best.state_key]
    best.load_state_dict(state)
    assert best.best_model_score == state["best_model_score"]
    assert best.best_model_path == str(moved / "checkpoints" / "best.ckpt")
    assert list(best.best_k_models) == [best.best_model_path]
