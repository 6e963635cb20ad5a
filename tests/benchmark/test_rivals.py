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
from torch import nn

from ranet import UserError
from ranet.benchmark.rivals import all_exits, check_rivals, find_rivals, open_rivals, run_as_trained, run_whole
from ranet.inference.choosing.open_backend import open_network
from ranet.inference.graphs.of_file import FileGraph
from ranet.inference.runtimes.backend import Runtime
from ranet.models import SingleExit, network_fingerprint
from ranet.models.adapted import named as named_module
from tests.inference.graphs.files import write_onnx
from tests.inference.networks import make_of_three_exits
from tests.inference.replay import all_logits

onnx: Any = pytest.importorskip("onnx")
RUNTIMES = [name for name in ("onnxruntime", "openvino") if find_spec(name)]


def some_images(count: int, edge: int = 32) -> npt.NDArray[np.float32]:
    return np.random.default_rng(1).standard_normal((count, 3, edge, edge), dtype=np.float32)


def test_names_accuracies_and_files(tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "any.onnx", ("N", 3, "H", "H"))
    fixed = write_onnx(tmp_path / "fixed.onnx", (4, 3, 48, 48))
    found = find_rivals(["resnet18:69.76", "squeezenet1_1", str(path), f"{fixed}:71"], 7, (3, 40, 40))
    assert [rival.name for rival in found] == ["resnet18", "squeezenet1_1", str(path), str(fixed)]
    assert [rival.accuracy for rival in found] == pytest.approx([0.6976, math.nan, math.nan, 0.71], nan_ok=True)
    networks, graphs = [rival.network for rival in found[:2]], [rival.network for rival in found[2:]]
    for network in networks:
        assert isinstance(network, SingleExit)
        assert network.image_shape == (3, 40, 40)
        with torch.no_grad():
            assert network(torch.zeros(2, 3, 40, 40)).shape == (1, 2, 7)
    for graph, edge, size in zip(graphs, (40, 48), (None, 4), strict=True):
        assert isinstance(graph, FileGraph)
        assert graph.facts.input_shape == (3, edge, edge)
        assert graph.batch_size == size


def test_without_timm_an_unknown_name_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(named_module, "find_spec", lambda name: None if name == "timm" else find_spec(name))
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
    monkeypatch.setattr(named_module, "find_spec", lambda name: True)
    monkeypatch.setattr(named_module, "import_module", lambda name: timm)
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
    (rival,) = find_rivals([str(path)], 10, (3, 32, 32))
    assert isinstance(rival.network, FileGraph)
    assert rival.network.facts.input_shape == (3, 24, 40)


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
    with pytest.raises(UserError, match=r"not an ONNX file, or is damaged|must have one input, float32 images"):
        find_rivals([str(tmp_path / "bad.onnx")], 10, (3, 32, 32))


def test_files_have_no_turn_where_they_cannot_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_onnx(Path("a.onnx"), ("N", 3, 32, 32))
    write_onnx(Path("b.onnx"), (4, 3, 32, 32))
    free, fixed = find_rivals(["a.onnx", "b.onnx"], 5, (3, 32, 32))
    check_rivals([free], ["torch", "openvino"], [1, 64])
    check_rivals([fixed], ["openvino"], [4])
    with pytest.raises(UserError, match=r"a.onnx runs in onnxruntime and openvino; measure in one of these, too"):
        check_rivals([free], ["torch"], [1])
    with pytest.raises(UserError, match=r"b.onnx is made for batches of 4; measure with batch_sizes=\[4\] alone"):
        check_rivals([fixed], ["openvino"], [1, 4])


@pytest.mark.parametrize("backend", ["torch", *RUNTIMES])
def test_opponents(backend: str, tmp_path: Path) -> None:
    network = make_of_three_exits("msdnet_tiny")
    path = write_onnx(tmp_path / "any.onnx", ("N", 3, 48, 48))
    runtime = Runtime(backend, threads=1, batch_sizes=[3] if backend == "openvino" else None)
    opened = open_rivals(find_rivals([str(path), "squeezenet1_1"], 10, (3, 32, 32)), runtime, [3])
    assert set(opened) == {"squeezenet1_1", *([] if backend == "torch" else [str(path)])}
    assert run_whole(opened["squeezenet1_1"], 3)(some_images(3)).shape == (3,)
    if backend != "torch":
        assert opened[str(path)].facts.input_shape == (3, 48, 48)
        assert run_whole(opened[str(path)], 3)(some_images(3, 48)).shape == (3,)
    images = some_images(3)
    expected = all_logits(network, images).numpy()
    np.testing.assert_allclose(run_as_trained(network)(images), expected[-1], atol=1e-5)
    together = np.concatenate([*expected], axis=1)
    whole = run_whole(open_network(all_exits(network), runtime).backend, 3)
    np.testing.assert_array_equal(whole(images), together.argmax(axis=1))


def test_a_rival_is_the_same_in_each_run() -> None:
    """So the cache holds one export of it."""
    random = torch.get_rng_state()
    one, other = (find_rivals(["squeezenet1_1"], 10, (3, 32, 32))[0].network for _ in range(2))
    assert isinstance(one, SingleExit)
    assert isinstance(other, SingleExit)
    assert network_fingerprint(one) == network_fingerprint(other)
    assert torch.equal(torch.get_rng_state(), random)


@pytest.mark.parametrize("backend", RUNTIMES)
def test_a_graph_that_a_runtime_cannot_run_is_a_sentence(backend: str, tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "odd.onnx", ("N", 3, 32, 32))
    model = onnx.load(path)
    model.graph.node[0].op_type = "NoSuchOperator"
    onnx.save(model, path)
    with pytest.raises(UserError, match=r"^The rival .*odd.onnx cannot be measured: .*\.$"):
        open_rivals(find_rivals([str(path)], 5, (3, 32, 32)), Runtime(backend), [1])
