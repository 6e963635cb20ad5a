"""Static rivals are found by name or file, refused in a sentence, and run in every runtime as they are."""

import math
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torchvision
from torch import nn

from ranet import UserError, create_network
from ranet.benchmark import rivals as rivals_module
from ranet.benchmark.opponents import ALL_EXITS, TRAINED, Opponents
from ranet.benchmark.rivals import Rival, check_rivals, find_rivals
from ranet.benchmark.uncut import Runtime, uncut

onnx: Any = pytest.importorskip("onnx")
RUNTIMES = [name for name in ("onnxruntime", "openvino") if find_spec(name)]
WEIGHTS = np.random.default_rng(0).standard_normal((3, 5), dtype=np.float32)


def write_onnx(path: Path, shape: tuple[int | str, ...], kind: str = "FLOAT", inputs: int = 1) -> Path:
    """A graph that averages over the pixels and multiplies by `WEIGHTS`."""
    helper = onnx.helper
    given = [helper.make_tensor_value_info(f"images{i}", getattr(onnx.TensorProto, kind), shape) for i in range(inputs)]
    nodes = [
        helper.make_node("GlobalAveragePool", ["images0"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["vector"]),
        helper.make_node("MatMul", ["vector", "weights"], ["logits"]),
    ]
    out = helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, (shape[0], 5))
    weights = onnx.numpy_helper.from_array(WEIGHTS, "weights")
    graph = helper.make_graph(nodes, "rival", given, [out], [weights])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def some_images(count: int, edge: int = 32) -> npt.NDArray[np.float32]:
    return np.random.default_rng(1).standard_normal((count, 3, edge, edge), dtype=np.float32)


def test_names_accuracies_and_files(tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "any.onnx", ("N", 3, "H", "H"))
    fixed = write_onnx(tmp_path / "fixed.onnx", (4, 3, 48, 48))
    found = find_rivals(["resnet18:69.76", "squeezenet1_1", str(path), f"{fixed}:71"], 7, (3, 40, 40))
    assert [rival.name for rival in found] == ["resnet18", "squeezenet1_1", str(path), str(fixed)]
    assert [rival.accuracy for rival in found] == pytest.approx([0.6976, math.nan, math.nan, 0.71], nan_ok=True)
    assert [rival.shape[-1] for rival in found] == [40, 40, 40, 48]
    assert [rival.batch_size for rival in found] == [None, None, None, 4]
    assert isinstance(found[0].model, nn.Module)
    with torch.no_grad():
        assert found[0].model(torch.zeros(2, 3, 40, 40)).shape == (2, 7)
    assert found[2].model == path


def test_without_timm_an_unknown_name_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rivals_module, "find_spec", lambda name: None if name == "timm" else find_spec(name))
    with pytest.raises(UserError, match=r"Unknown rival 'zzz': not in torchvision\. Install timm to search"):
        find_rivals(["zzz"], 10, (3, 32, 32))
    with pytest.raises(UserError, match="did you mean resnet18"):
        find_rivals(["resnet19"], 10, (3, 32, 32))


def test_names_of_timm_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    created = []

    def create_model(name: str, pretrained: bool, num_classes: int) -> nn.Module:
        created.append((name, pretrained, num_classes))
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, num_classes))

    timm = SimpleNamespace(
        is_model=lambda name: name == "mobilenetv3_large_100",
        list_models=lambda: ["mobilenetv3_large_100"],
        create_model=create_model,
    )
    monkeypatch.setattr(rivals_module, "find_spec", lambda name: True)
    monkeypatch.setattr(rivals_module, "import_module", lambda name: timm)
    (rival,) = find_rivals(["mobilenetv3_large_100:75.8"], 6, (3, 32, 32))
    assert created == [("mobilenetv3_large_100", False, 6)]
    assert rival.accuracy == 0.758
    with pytest.raises(UserError, match=r"not in torchvision or timm; did you mean .*mobilenetv3_large_100"):
        find_rivals(["mobilenetv3_large"], 6, (3, 32, 32))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("resnet18:good", "must be a name, or a name and its top-1 accuracy in percent"),
        ("resnet18:101", "must be a name, or a name and its top-1 accuracy in percent"),
        ("resnet18:nan", "must be a name, or a name and its top-1 accuracy in percent"),
        ("vit_b_16", r"The rival vit_b_16 cannot read images of shape \(3, 32, 32\); leave it out"),
        ("nowhere.onnx", "does not exist"),
    ],
)
def test_bad_descriptions(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        find_rivals([text], 10, (3, 32, 32))


def test_a_file_may_read_images_that_are_not_square(tmp_path: Path) -> None:
    path = tmp_path / "wide.onnx"
    write_onnx(path, ("N", 3, 24, 40))
    assert find_rivals([str(path)], 10, (3, 32, 32))[0].shape == (3, 24, 40)


@pytest.mark.parametrize(
    "make",
    [
        lambda path: path.write_bytes(b"this is no graph"),
        lambda path: path.write_bytes(b""),
        lambda path: write_onnx(path, ("N", 3, 32, 32), kind="INT64"),
        lambda path: write_onnx(path, ("N", 1, 32, 32)),
        lambda path: write_onnx(path, ("N", 3, 32)),
        lambda path: write_onnx(path, ("N", 3, 32, 32), inputs=2),
    ],
)
def test_bad_files(make: Any, tmp_path: Path) -> None:
    make(tmp_path / "bad.onnx")
    with pytest.raises(UserError, match=r"no ONNX file, or damaged|must have one input, float32 images"):
        find_rivals([str(tmp_path / "bad.onnx")], 10, (3, 32, 32))


def test_files_have_no_turn_where_they_cannot_run() -> None:
    free, fixed = Rival("a.onnx", Path("a.onnx"), 32), Rival("b.onnx", Path("b.onnx"), 32, batch_size=4)
    check_rivals([free], ["torch", "openvino"], [1, 64])
    check_rivals([fixed], ["openvino"], [4])
    with pytest.raises(UserError, match=r"a.onnx runs in onnxruntime and openvino; measure in one of these, too"):
        check_rivals([free], ["torch"], [1])
    with pytest.raises(UserError, match=r"b.onnx is made for batches of 4; measure with batch_sizes=\[4\] alone"):
        check_rivals([fixed], ["openvino"], [1, 4])


def test_pytorch_runs_a_network_as_it_is() -> None:
    torch.manual_seed(0)
    network = torchvision.models.resnet18(weights=None, num_classes=5).eval()
    images = some_images(3)
    with torch.no_grad():
        expected = network(torch.from_numpy(images)).numpy()
    found = uncut(network, Runtime("torch"), images.shape)(images)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    coarse = uncut(network, Runtime("torch", "bfloat16"), images.shape)(images)
    assert coarse.dtype == np.float32
    assert 0 < abs(coarse - expected).max() < 0.1 * abs(expected).max()
    assert next(network.parameters()).dtype == torch.float32, "the network itself is not changed"


@pytest.mark.parametrize("backend", RUNTIMES)
@pytest.mark.parametrize("size", [1, 4])
def test_runtimes_run_a_file(backend: str, size: int, tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "any.onnx", ("N", 3, "H", "H"))
    run = uncut(path, Runtime(backend, threads=1), (size, 3, 24, 24))
    images = some_images(size, 24)
    for given in (images, 2 * images):
        (found,) = run(given)
        np.testing.assert_allclose(found, given.mean(axis=(2, 3)) @ WEIGHTS, atol=1e-4)


@pytest.mark.parametrize("backend", RUNTIMES)
def test_a_damaged_graph_is_a_sentence(backend: str) -> None:
    with pytest.raises(UserError, match=f"{backend} cannot run the graph"):
        uncut(b"this is no graph", Runtime(backend), (1, 3, 32, 32))


@pytest.mark.parametrize("backend", RUNTIMES)
def test_runtimes_run_a_module_by_its_export(backend: str) -> None:
    pytest.importorskip("onnxscript")
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    images = some_images(2)
    (found,) = uncut(network, Runtime(backend, threads=1), images.shape)(images)
    with torch.no_grad():
        np.testing.assert_allclose(found, network.eval()(torch.from_numpy(images)).numpy(), atol=1e-5)


@pytest.mark.parametrize("backend", ["torch", *RUNTIMES])
def test_opponents(backend: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = create_network("msdnet_tiny", blocks=3).eval()
    path = write_onnx(tmp_path / "any.onnx", ("N", 3, 48, 48))
    ready = Opponents(network, find_rivals([str(path)], 10, (3, 32, 32))).ready(Runtime(backend, threads=1), 3)
    assert set(ready) == {TRAINED, ALL_EXITS, *([] if backend == "torch" else [str(path)])}
    images = some_images(3)
    with torch.no_grad():
        expected = network(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(ready[TRAINED].run(images), expected[-1], atol=1e-5)
    np.testing.assert_allclose(np.stack(list(ready[ALL_EXITS].run(images))), expected, atol=1e-3)
    if backend != "torch":
        assert ready[str(path)].shape == (3, 48, 48)
        assert ready[str(path)].run(some_images(3, 48))[0].shape == (3, 5)
