"""The CIFAR ResNets: published counts, published weights, and an independent forward pass."""

import re
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from ranet import (
    EarlyExitEngine,
    ExitPolicy,
    StagedNetwork,
    UserError,
    create_network,
    load_public_checkpoint,
    measure_costs,
)
from ranet.data import ImageData
from ranet.inference.stages.prepared import prepared
from tests.inference.networks import FLOAT32, trained_looking
from tests.inference.replay import all_logits, check_answers

DEPTHS = (20, 32, 44, 56)
#: The normalisation that the public checkpoints were trained with.
STATISTICS = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


def forward(weights: dict[str, Tensor], x: Tensor) -> Tensor:
    """Logits by the public names, written from the paper alone."""

    def norm(name: str, x: Tensor) -> Tensor:
        mean, var, weight, bias = (weights[f"{name}.{n}"] for n in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, mean, var, weight, bias)

    x = F.relu(norm("bn1", F.conv2d(x, weights["conv1.weight"], padding=1)))
    for layer in ("layer1", "layer2", "layer3"):
        for i in range(len({name.split(".")[1] for name in weights if name.startswith(layer)})):
            block, stride = f"{layer}.{i}", 2 if i == 0 and layer != "layer1" else 1
            y = F.conv2d(x, weights[f"{block}.conv1.weight"], stride=stride, padding=1)
            y = F.conv2d(F.relu(norm(f"{block}.bn1", y)), weights[f"{block}.conv2.weight"], padding=1)
            y = norm(f"{block}.bn2", y)
            if f"{block}.shortcut.0.weight" in weights:
                x = norm(f"{block}.shortcut.1", F.conv2d(x, weights[f"{block}.shortcut.0.weight"], stride=2))
            elif stride == 2:
                x = x[:, :, ::2, ::2]
                zeros = torch.zeros_like(x[:, : x.shape[1] // 2])
                x = torch.cat([zeros, x, zeros], dim=1)
            x = F.relu(x + y)
    return x.mean(dim=(2, 3)) @ weights["linear.weight"].T + weights["linear.bias"]


def public_names(network: StagedNetwork) -> dict[str, Tensor]:
    """The network's weights by the names of the public code."""
    renamed = {}
    for name, value in network.state_dict().items():
        name = re.sub(r"shortcut\.(conv|norm)", lambda match: f"shortcut.{int(match[1] == 'norm')}", name)
        name = re.sub(r"conv(\d)\.conv", r"conv\1", re.sub(r"conv(\d)\.norm", r"bn\1", name))
        name = name.replace("first.conv", "conv1").replace("first.norm", "bn1").removeprefix("heads.0.")
        renamed[name] = value.clone()
    return renamed


def small(shortcut: str = "A", seed: int = 0, **options: object) -> StagedNetwork:
    torch.manual_seed(seed)
    network = create_network("resnet_cifar", depth=14, channels=6, shortcut=shortcut, **options)
    return trained_looking(network, seed)


@pytest.mark.parametrize(
    ("depth", "parameters", "macs"),
    [(20, 0.27, 41), (32, 0.46, 69), (44, 0.66, 97), (56, 0.85, 125), (110, 1.73, 253)],
)
def test_parameters_and_multiply_adds_are_the_published_ones(depth: int, parameters: float, macs: float) -> None:
    costs = measure_costs(create_network(f"resnet{depth}_cifar", num_classes=10))
    assert costs.parameters / 1e6 == pytest.approx(parameters, abs=0.005)
    assert costs.macs_per_exit[0] / 1e6 == pytest.approx(macs, abs=0.6)


@pytest.mark.parametrize("depth", DEPTHS)
def test_logits_are_those_of_an_independent_forward_pass(depth: int, shared: Path) -> None:
    file = shared / "weights" / f"resnet{depth}_cifar10.safetensors"
    network = load_public_checkpoint(create_network(f"resnet{depth}_cifar", num_classes=10), file).eval().double()
    weights = {name: value.double() for name, value in load_file(file).items()}
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(depth), dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(network(images)[0], forward(weights, images))


@pytest.mark.parametrize("shortcut", ["A", "B"])
@pytest.mark.parametrize("size", [32, 21])
def test_both_shortcuts_load_by_the_public_names_from_the_file_of_a_parallel_training(
    shortcut: str, size: int, tmp_path: Path
) -> None:
    trained = small(shortcut, image_size=size).double()
    weights = public_names(trained)
    torch.save(
        {"state_dict": {f"module.{name}": value for name, value in weights.items()}, "best_prec1": 91.7},
        tmp_path / "model.th",
    )
    network = small(shortcut, seed=1, image_size=size).double()
    images = torch.randn(3, 3, size, size, dtype=torch.float64)
    with torch.no_grad():
        assert not network(images).equal(trained(images))
        load_public_checkpoint(network, tmp_path / "model.th")
        assert network(images).equal(trained(images))
        torch.testing.assert_close(network(images)[0], forward(weights, images))


def test_only_option_b_has_parameters_in_its_shortcuts() -> None:
    with_parameters = [
        {name.rpartition(".")[0] for name, _ in small(shortcut).named_parameters() if "shortcut" in name}
        for shortcut in "AB"
    ]
    assert with_parameters[0] == set()
    assert with_parameters[1] == {f"layer{i}.0.shortcut.{part}" for i in (2, 3) for part in ("conv", "norm")}
    with pytest.raises(UserError, match="of another network than this ResNetCifar: 10 parameters are missing"):
        load_public_checkpoint(small("B"), public_names(small("A")))


@pytest.mark.parametrize(("classes", "size", "channels"), [(2, 9, 1), (100, 32, 3), (7, (28, 40), 3)])
def test_other_classes_and_images(classes: int, size: int | tuple[int, int], channels: int) -> None:
    network = small(num_classes=classes, image_size=size, in_channels=channels)
    with torch.no_grad():
        assert network(torch.zeros(2, *network.image_shape)).shape == (1, 2, classes)


def test_initialisation_is_he_et_als() -> None:
    torch.manual_seed(0)
    network = create_network("resnet56_cifar")
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 5000:
            assert module.weight.std().item() == pytest.approx((2 / module.weight[0].numel()) ** 0.5, rel=0.05)
        if isinstance(module, nn.BatchNorm2d):
            assert (module.weight == 1).all()
    assert (network.readouts[0].bias == 0).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 21}, "depth=21 must be 6n \\+ 2"),
        ({"depth": 2}, "depth=2 must be 6n \\+ 2"),
        ({"depth": "20"}, "depth=20 must be 6n \\+ 2"),
        ({"shortcut": "C"}, "Unknown shortcut 'C'; known: A, B"),
        ({"channels": 0}, "channels=0 must be"),
    ],
)
def test_what_cannot_be_built_is_refused(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        create_network("resnet_cifar", **options)


@pytest.mark.parametrize("shortcut", ["A", "B"])
def test_no_batch_normalisation_is_left_when_it_answers(shortcut: str) -> None:
    network = small(shortcut)
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    ready = prepared(network)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in ready.modules())
    with torch.no_grad():
        expected = network(images)
        torch.testing.assert_close(ready(images), expected, rtol=0, atol=FLOAT32 * expected.abs().max().item())


@pytest.mark.parametrize("shortcut", ["A", pytest.param("B", marks=pytest.mark.slow)])
@pytest.mark.parametrize("backend", ["torch", pytest.param("onnxruntime", marks=pytest.mark.slow), "openvino"])
def test_the_engine_answers_as_the_network(shortcut: str, backend: str) -> None:
    if not find_spec(backend):
        pytest.skip(f"{backend} is not installed")
    network, policy = small(shortcut), ExitPolicy(())
    images = np.random.default_rng(0).standard_normal((5, 3, 32, 32), dtype=np.float32)
    engine = EarlyExitEngine(network, policy, backend=backend)
    for batch in (images, images[:1]):
        check_answers(engine(batch), policy, all_logits(network, batch))


def accuracy(network: StagedNetwork, data: ImageData, part: slice | None = None) -> float:
    correct = total = 0
    with torch.inference_mode():
        for images, labels in data.evaluation_loader("test", part):
            correct += int((network(images)[0].argmax(-1) == labels).sum())
            total += len(labels)
    return 100 * correct / total


@pytest.mark.slow
def test_the_public_resnet_20_knows_cifar_with_its_own_normalisation(shared: Path, cifar_root: Path) -> None:
    file = shared / "weights" / "resnet20_cifar10.safetensors"
    network = load_public_checkpoint(create_network("resnet20_cifar", num_classes=10), file).eval()
    own, usual = ImageData("cifar10", root=cifar_root, **STATISTICS), ImageData("cifar10", root=cifar_root)
    assert accuracy(network, own, slice(500)) == pytest.approx(91.73, abs=2.5)
    assert own.facts.preprocessing.mean == tuple(STATISTICS["mean"])
    assert own.fingerprint("test") != usual.fingerprint("test")
    same = ImageData("cifar10", root=cifar_root, mean=usual.facts.mean, std=usual.facts.std)
    assert same.fingerprint("test") == usual.fingerprint("test")


@pytest.mark.slow
@pytest.mark.parametrize(("depth", "top1"), [(32, 92.63), (56, 93.39)])
def test_the_public_resnets_have_their_accuracy_on_all_test_images(
    depth: int, top1: float, shared: Path, cifar_root: Path
) -> None:
    file = shared / "weights" / f"resnet{depth}_cifar10.safetensors"
    network = load_public_checkpoint(create_network(f"resnet{depth}_cifar", num_classes=10), file).eval()
    data = ImageData("cifar10", root=cifar_root, **STATISTICS)
    assert accuracy(network, data) == pytest.approx(top1, abs=0.011)
