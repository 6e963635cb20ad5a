"""Ordinary classifiers and ONNX files in every runtime: the answers are theirs, folded or not."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn

from ranet import EarlyExitEngine, ExitPolicy, UserError, export_engine
from ranet.inference.choosing.open_backend import graph_backend, open_network
from ranet.inference.graphs.of_file import FileGraph
from ranet.inference.runtimes.backend import Backend, Precision, Runtime
from ranet.inference.stages.fused_stages import FusedStage
from ranet.inference.stages.prepared import prepared
from ranet.models import SingleExit, StagedNetwork
from tests.inference.graphs.files import WEIGHTS, write_onnx

EDGE, CLASSES = 40, 6
RUNTIMES = [name for name in ("onnxruntime", "openvino") if find_spec(name)]
IMAGES = np.random.default_rng(0).standard_normal((3, 3, EDGE, EDGE), dtype=np.float32)


def classifier(name: str) -> StagedNetwork:
    """One of torchvision with statistics as if it had been trained; PyTorch's own weights of its linear layers."""
    torch.manual_seed(0)
    network = torchvision.models.get_model(name, weights=None, num_classes=CLASSES)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.1)
    return SingleExit(network.eval(), CLASSES, EDGE)


def logits_of(network: StagedNetwork) -> np.ndarray:
    with torch.no_grad():
        return network(torch.from_numpy(IMAGES))[0].numpy()


def answered(backend: Backend, images: np.ndarray) -> np.ndarray:
    stage = FusedStage(0, 0)
    buffer = backend.buffer(stage, len(images))
    backend.copy_rows((images,), None, buffer, 0)
    logits, after = backend.run(stage, buffer, len(images))
    assert after == ()
    return logits


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["torch", *RUNTIMES])
def test_a_resnet_answers_as_itself(runtime: str) -> None:
    network = classifier("resnet18")
    sizes = [len(IMAGES)] if runtime == "openvino" else None
    backend = open_network(network, Runtime(runtime, threads=1 if sizes else None, batch_sizes=sizes)).backend
    expected = logits_of(network)
    np.testing.assert_allclose(answered(backend, IMAGES), expected, rtol=0, atol=1e-4 * abs(expected).max())
    assert backend.facts.num_exits == 1


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_pytorch_runs_in_a_precision(precision: Precision) -> None:
    network = classifier("mobilenet_v3_small")
    found = answered(open_network(network, Runtime("torch", precision=precision)).backend, IMAGES)
    expected, within = logits_of(network), 1e-4 if precision == "float32" else 0.1
    assert found.dtype == np.float32
    assert 0 < abs(found - expected).max() < within * abs(expected).max()
    assert next(network.parameters()).dtype == torch.float32, "the network itself is not changed"


@pytest.mark.parametrize(
    "name",
    [
        *("mobilenet_v3_small", "shufflenet_v2_x0_5", "squeezenet1_1"),
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("densenet121", "efficientnet_b0", "regnet_y_400mf", "mnasnet0_5", "googlenet", "convnext_tiny")
        ),
    ],
)
def test_folding_changes_an_answer_only_by_rounding(name: str) -> None:
    network = classifier(name)
    expected = logits_of(network)
    found = logits_of(prepared(network))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * abs(expected).max())


class NormWithActivation(nn.BatchNorm2d):
    """As timm has it."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).relu()


def shared() -> list[nn.Module]:
    convolution = nn.Conv2d(3, 3, 1)
    return [convolution, nn.BatchNorm2d(3), convolution, nn.BatchNorm2d(3)]


def hooked() -> list[nn.Module]:
    convolution = nn.Conv2d(3, 3, 1)
    convolution.register_forward_hook(lambda module, given, output: 2 * output)
    return [convolution, nn.BatchNorm2d(3)]


@pytest.mark.parametrize(
    "layers",
    [
        shared,
        hooked,
        lambda: [nn.Conv2d(3, 3, 1), NormWithActivation(3)],
        lambda: [nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, affine=False)],
        lambda: [nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, track_running_stats=False)],
        lambda: [nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 3, 1)), nn.BatchNorm2d(3)],
    ],
)
def test_only_what_can_be_folded_safely_is(layers: object) -> None:
    torch.manual_seed(0)
    network = SingleExit(nn.Sequential(*layers(), nn.AdaptiveAvgPool2d(1), nn.Flatten()), 3, EDGE)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d) and module.track_running_stats:
            module.running_mean, module.running_var = torch.randn(3), torch.rand(3) + 0.5
    expected = logits_of(network.eval())
    np.testing.assert_allclose(logits_of(prepared(network)), expected, atol=1e-5)


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("size", [1, 4])
def test_runtimes_run_a_file(runtime: str, size: int, tmp_path: Path) -> None:
    graph = FileGraph(write_onnx(tmp_path / "any.onnx", ("N", 3, "H", "H")), (3, 24, 32))
    assert graph.facts.input_shape == (3, 24, 32)
    assert (graph.facts.num_exits, graph.facts.num_classes, graph.batch_size) == (1, 5, None)
    backend = graph_backend(runtime, graph, Runtime(threads=1, batch_sizes=[size]))
    images = np.random.default_rng(1).standard_normal((size, 3, 24, 32), dtype=np.float32)
    for given in (images, 2 * images):
        np.testing.assert_allclose(answered(backend, given), given.mean(axis=(2, 3)) @ WEIGHTS, atol=1e-4)


def test_another_file_has_another_fingerprint(tmp_path: Path) -> None:
    one, other = (FileGraph(write_onnx(tmp_path / f"{size}.onnx", (size, 3, 8, 8)), (3, 8, 8)) for size in (1, 2))
    assert one.facts.fingerprint != other.facts.fingerprint
    assert (one.batch_size, other.batch_size) == (1, 2)


def test_a_file_that_does_not_classify_is_refused(tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "map.onnx", ("N", 3, 8, 8), output=("N", 5, 1, 1))
    with pytest.raises(UserError, match=r"must have logits \(N, classes\) as its first output"):
        FileGraph(path, (3, 8, 8))


def test_the_engine_and_an_export_answer_as_the_classifier(tmp_path: Path) -> None:
    for package in ("onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    network = SingleExit(nn.Sequential(*layers), num_classes=4, image_size=EDGE).eval()
    policy, expected = ExitPolicy.only(0, 1), logits_of(network)
    export_engine(network, policy, tmp_path / "engine")
    for engine in (
        EarlyExitEngine(network, policy, "torch"),
        EarlyExitEngine(tmp_path / "engine", backend="onnxruntime"),
    ):
        answers = engine(IMAGES)
        np.testing.assert_allclose(answers.logits, expected, atol=1e-5)
        assert set(answers.exits) == {0}
