"""Weights from files, runs and published names, into any network."""

import logging
import pickle
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from ranet import InlineCollaboration, UserError, create_network, load_weights
from ranet.models import SingleExit
from ranet.models.published_weights import published_weights
from ranet.models.weights import start_from_weights


def fresh(seed: int, name: str = "msdnet_tiny", **options: object) -> nn.Module:
    torch.manual_seed(seed)
    return create_network(name, **options).eval()


def same(one: nn.Module, other: nn.Module) -> bool:
    theirs = other.state_dict()
    return all(torch.equal(value, theirs[name]) for name, value in one.state_dict().items())


@pytest.mark.parametrize("wrapped", ["alone", "state_dict", "model", "module.", "module._orig_mod."])
@pytest.mark.parametrize("suffix", ["safetensors", "pth", "th"])
def test_weights_are_read_from_files_as_others_save_them(wrapped: str, suffix: str, tmp_path: Path) -> None:
    trained, file = fresh(1), tmp_path / f"weights.{suffix}"
    weights = trained.state_dict()
    if wrapped.endswith("."):
        weights = {wrapped + name: value for name, value in weights.items()}
    if suffix == "safetensors":
        save_file(weights, file)
    else:
        torch.save({wrapped: weights, "epoch": 3} if wrapped in ("state_dict", "model") else weights, file)
    network = fresh(0)
    assert not same(network, trained)
    assert load_weights(network, file) is network
    assert same(network, trained)
    assert same(load_weights(fresh(0), str(file)), trained)


def test_wrapped_networks_get_weights_by_their_own_names() -> None:
    torch.manual_seed(0)
    trained = torchvision.models.resnet18(num_classes=7)
    network = SingleExit(torchvision.models.resnet18(num_classes=7), num_classes=7, image_size=32)
    assert same(load_weights(network, trained.state_dict()).module, trained)


def test_collaborating_exits_get_weights_of_exits_that_do_not_and_of_such_that_do() -> None:
    trained, network = fresh(1), InlineCollaboration(fresh(0))
    links = [value.clone() for value in network.links.state_dict().values()]
    load_weights(network, trained.state_dict())
    assert same(network.network, trained)
    assert all(map(torch.equal, links, network.links.state_dict().values()))

    torch.manual_seed(2)
    trained = InlineCollaboration(fresh(2))
    assert same(load_weights(network, trained.state_dict()), trained)
    with pytest.raises(UserError, match=r"do not fit this MSDNet: .* unexpected"):
        load_weights(fresh(0), trained.state_dict())


def test_what_does_not_fit_is_named_and_changes_nothing() -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    weights = {name: value + 1 for name, value in before.items() if not name.endswith("num_batches_tracked")}
    weights["9.bias"] = weights.pop("1.bias")
    weights["0.weight"] = torch.zeros(4, 5)
    with pytest.raises(UserError) as refused:
        load_weights(network, weights)
    assert str(refused.value) == (
        "The given weights do not fit this Sequential: 1 tensor is missing (1.bias), 1 is unexpected (9.bias), 1 has "
        "another shape (0.weight: (4, 5), the network has (4, 3)); use weights of this network, built with the same "
        "options."
    )
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())

    with pytest.raises(UserError, match=r"\d\d tensors are missing \(([^;]+; ){3}\.\.\.\), \d+ are unexpected"):
        load_weights(create_network("ranet_tiny"), fresh(0).state_dict())


@pytest.mark.parametrize("name", ["msdnet_tiny", "torchvision"])
def test_last_linear_layers_of_another_class_count_stay_where_that_is_asked_for(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    def make(classes: int) -> nn.Module:
        if name == "torchvision":
            return torchvision.models.mobilenet_v3_small(num_classes=classes)
        return fresh(0, name, num_classes=classes)

    trained, network = make(6), make(10)
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.add_(1)
    last = "classifier.3" if name == "torchvision" else "heads.4.linear"
    with pytest.raises(UserError, match=rf"{last if name == 'torchvision' else 'heads.0.linear'}\.weight: \(6, "):
        load_weights(network, trained.state_dict())

    initial = network.get_submodule(last).weight.clone()
    with caplog.at_level(logging.INFO):
        start_from_weights(network, trained.state_dict())
    (notice,) = caplog.messages
    assert "for 6 classes and the network has 10" in notice
    assert f"{last} starts with new weights" in notice
    assert torch.equal(network.get_submodule(last).weight, initial)
    old, new = trained.state_dict(), network.state_dict()
    assert all(torch.equal(new[key], old[key]) for key in old if old[key].shape == new[key].shape)
    # Other layers than the last may not differ.
    wrong = {**trained.state_dict(), next(iter(old)): torch.zeros(1)}
    with pytest.raises(UserError, match="1 tensor has another shape"):
        start_from_weights(network, wrong)


def test_what_holds_no_weights_is_refused_in_a_sentence(tmp_path: Path) -> None:
    network = fresh(0)
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.pth").write_text("no weights")
    with (tmp_path / "code.pth").open("wb") as file:
        pickle.dump(print, file, protocol=2)
    torch.save([1], tmp_path / "list.pth")
    for source, message in (
        (tmp_path / "absent", "There is no file or run folder"),
        ("absent.pth", "There is no file or run folder absent.pth"),
        (tmp_path / "empty", "holds no checkpoint"),
        (tmp_path / "text.pth", "not a checkpoint that can be read"),
        (tmp_path / "code.pth", "not a checkpoint that can be read"),
        (tmp_path / "list.pth", "it holds a list"),
        ({"weights": 1}, "must be a dictionary"),
        ("resnet5O", "Unknown file, run folder or published weights 'resnet5O'; did you mean"),
        ("resnet50.IMAGENET1K_V3", "did you mean resnet50.IMAGENET1K_V[12]"),
    ):
        with pytest.raises(UserError, match=message) as refused:
            load_weights(network, source)
        assert "\n" not in str(refused.value)


def test_published_weights_come_from_the_package_that_knows_them(monkeypatch: pytest.MonkeyPatch) -> None:
    trained = torchvision.models.resnet18()
    asked = []

    def get(weights: object, **options: object) -> dict[str, torch.Tensor]:
        assert options["weights_only"]
        asked.append(weights.name)
        return trained.state_dict()

    monkeypatch.setattr(torchvision.models.ResNet50_Weights, "get_state_dict", get)
    network = torchvision.models.resnet50()
    published_weights("resnet50", network)
    published_weights("resnet50.IMAGENET1K_V1", network)
    assert asked == ["IMAGENET1K_V2", "IMAGENET1K_V1"]
    with pytest.raises(UserError, match="The weights resnet50 do not fit this ResNet"):
        load_weights(network, "resnet50")
    monkeypatch.setattr(torchvision.models.ResNet18_Weights, "get_state_dict", lambda *_, **__: trained.state_dict())
    assert same(load_weights(torchvision.models.resnet18(), "resnet18"), trained)


def test_weights_that_cannot_be_downloaded_are_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("Name or service not known\nand more")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fail)
    with pytest.raises(UserError) as refused:
        load_weights(torchvision.models.resnet18(), "resnet18.IMAGENET1K_V1")
    assert str(refused.value) == (
        "The weights resnet18.IMAGENET1K_V1 of torchvision cannot be downloaded (Name or service not known); check the "
        "connection, or give a file with them."
    )


def test_published_weights_of_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    timm = pytest.importorskip("timm")
    trained = timm.create_model("mobilenetv3_small_050")
    asked = []

    def create(name: str, pretrained: bool) -> nn.Module:
        assert pretrained
        asked.append(name)
        return trained

    network = timm.create_model("mobilenetv3_small_050")
    with monkeypatch.context() as patch:
        patch.setattr(timm, "create_model", create)
        assert same(load_weights(network, "mobilenetv3_small_050.lamb_in1k"), trained)
        published_weights("resnet50", network)  # torchvision has it, too
        with pytest.raises(UserError, match=r"did you mean mobilenetv3_small_050\.lamb_in1k"):
            load_weights(network, "mobilenetv3_small_050.lamb_in2k")
    assert asked == ["mobilenetv3_small_050.lamb_in1k", "resnet50"]

    monkeypatch.setattr(timm, "create_model", lambda *_, **__: 1 / 0)
    with pytest.raises(UserError, match=r"lamb_in1k of timm cannot be downloaded \(division by zero\)"):
        load_weights(network, "mobilenetv3_small_050.lamb_in1k")
