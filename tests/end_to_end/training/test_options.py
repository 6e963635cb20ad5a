"""Precision, compilation, weights of exits, networks and costs from the command line."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._dynamo.utils import counters

import ranet
from tests.end_to_end.commands import SMALL, content, train
from tests.end_to_end.commands import ranet as command

ALONE = [*SMALL, "evaluate=false", "run=results"]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "results" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def test_bfloat16_trains_in_bfloat16_and_stores_float32(tmp_path: Path) -> None:
    for precision in ("32-true", "bf16-mixed"):
        (tmp_path / precision).mkdir()
        train(*ALONE, f"trainer.precision={precision}", folder=tmp_path / precision)
    exact, mixed = weights(tmp_path / "32-true"), weights(tmp_path / "bf16-mixed")
    moved = {name for name, value in exact.items() if value.is_floating_point() and not torch.equal(value, mixed[name])}
    assert moved, "the precision changes nothing"
    assert {value.dtype for value in mixed.values() if value.is_floating_point()} == {torch.float32}
    for name in moved:
        torch.testing.assert_close(mixed[name], exact[name], rtol=0.5, atol=0.1)


@pytest.mark.minutes  # to compile
def test_a_compiled_network_trains_and_is_stored_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    (tmp_path / "compiled").mkdir()
    torch._dynamo.reset()
    counters.clear()
    exact = "trainer.precision=64-true"  # so that only another training differs by more than 1e-6
    train(*ALONE, exact, folder=tmp_path / "plain")
    assert not counters["stats"]["unique_graphs"]
    train(*ALONE, exact, "compile=true", folder=tmp_path / "compiled")
    assert counters["stats"]["unique_graphs"]
    plain, compiled = weights(tmp_path / "plain"), weights(tmp_path / "compiled")
    assert list(plain) == list(compiled)
    for name, value in plain.items():
        torch.testing.assert_close(compiled[name], value, rtol=1e-6, atol=1e-6, msg=name)


@pytest.mark.slow
def test_channels_last_is_the_same_training(tmp_path: Path) -> None:
    for place in ("false", "true"):
        (tmp_path / place).mkdir()
        train(*ALONE, f"channels_last={place}", "trainer.precision=64-true", folder=tmp_path / place)
    usual, last = weights(tmp_path / "false"), weights(tmp_path / "true")
    assert last["network.blocks.0.0.own.0.conv.conv.weight"].is_contiguous(memory_format=torch.channels_last)
    for name, value in usual.items():
        torch.testing.assert_close(last[name], value, rtol=1e-6, atol=1e-6, msg=name)


def test_an_exit_of_weight_0_is_not_trained(tmp_path: Path) -> None:
    train(*ALONE, "optim.exit_weights=[1,0]", "optim.optimizer.weight_decay=0", folder=tmp_path)
    checkpoint = torch.load(tmp_path / "results" / "checkpoints" / "last.ckpt", weights_only=True)
    names = [name for name, _ in ranet.load_trained(tmp_path / "results").network.named_parameters()]
    (optimizer,) = checkpoint["optimizer_states"]
    moved = {name: bool(optimizer["state"][i]["momentum_buffer"].any()) for i, name in enumerate(names)}
    assert moved["heads.0.linear.weight"]
    assert not moved["heads.1.linear.weight"]


def test_checkpoints_do_not_pass_through_the_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def elsewhere(*_: Any, **__: Any) -> None:
        raise AssertionError("a rename from another disk is a copy")

    monkeypatch.setattr("tempfile.mkstemp", elsewhere)
    train(*ALONE, folder=tmp_path)
    assert weights(tmp_path)


def test_without_validation_images_the_last_checkpoint_is_the_result(tmp_path: Path) -> None:
    train(*SMALL, "data.validation_size=0", "run=results", folder=tmp_path)
    files = content(tmp_path / "results")
    assert "checkpoints/last.ckpt" in files
    assert "checkpoints/best.ckpt" not in files
    assert {"evaluation/anytime.csv", "evaluation/scores_test.npz"} <= set(files)
    assert not {"evaluation/scores_validation.npz", "evaluation/budgeted.csv"} & set(files)


def test_networks_are_listed_by_pattern(tmp_path: Path) -> None:
    outcome = command("networks", "pattern=*tiny", folder=tmp_path)
    assert outcome.status == 0
    listed = [line.split()[0] for line in outcome.out.splitlines() if line.split()[:1] != ["name"]]
    assert listed == ranet.list_networks("*tiny") == ["msdnet_tiny", "ranet_tiny"]
    assert not list(tmp_path.iterdir()), "looking leaves nothing behind"


def test_costs_are_printed_and_written(tmp_path: Path) -> None:
    outcome = command("costs", "model=ranet_tiny", "model.num_classes=100", "output=costs.json", folder=tmp_path)
    assert outcome.status == 0
    expected = ranet.measure_costs(ranet.create_network("ranet_tiny", num_classes=100))
    assert f"{expected.parameters:,} parameters" in outcome.out
    assert json.loads((tmp_path / "costs.json").read_text()) == json.loads(json.dumps(expected.to_dict()))
    assert [file.name for file in tmp_path.iterdir()] == ["costs.json"]


@pytest.mark.parametrize("width", [60, 80])
def test_networks_and_costs_are_read_on_narrow_terminals(
    width: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    listed, counted = (command(*words, folder=tmp_path).out for words in (["networks"], ["costs", "model=msdnet_tiny"]))
    assert max(map(len, (listed + counted).splitlines())) <= width
    assert all(name in listed.split() for name in ranet.list_networks())
    costs = ranet.measure_costs(ranet.create_network("msdnet_tiny"))
    for counts in (costs.macs_per_exit, costs.paper_ops_per_exit, costs.lazy_macs_per_exit):
        assert all(f"{count / 1e6:,.2f}" in counted.split() for count in counts)


def test_costs_with_collaboration_know_that_no_head_can_be_skipped(tmp_path: Path) -> None:
    outcome = command("costs", "model=msdnet_tiny", "collaboration=true", "output=costs.json", folder=tmp_path)
    assert outcome.status == 0
    assert "msdnet_tiny with collaboration" in outcome.out
    costs = json.loads((tmp_path / "costs.json").read_text())
    assert costs["macs_per_exit_alone"] == costs["macs_per_exit"]
    plain = ranet.measure_costs(ranet.create_network("msdnet_tiny"))
    links = [
        2 * 10 * 128 * k for k in range(plain.num_exits)
    ]  # two linear layers a link, of 10 classes and 128 features
    assert [a - b for a, b in zip(costs["macs_per_exit"], plain.macs_per_exit, strict=True)] == links
