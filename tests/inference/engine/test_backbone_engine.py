"""A backbone with exits in every runtime, exported and timed: the answers are those of the replay."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

import ranet
from ranet import EarlyExitEngine, ExitPolicy
from tests.inference.replay import all_logits, check_answers
from tests.models.adapted.test_backbone import TIMM, TORCHVISION, backbone

RUNTIMES = ["torch", *(name for name in ("onnxruntime", "openvino") if find_spec(name) and find_spec("onnx"))]
FAMILIES = [
    pytest.param(name, marks=[] if name == "resnet18" else [pytest.mark.slow]) for name in {**TORCHVISION, **TIMM}
]


def network_of(name: str) -> tuple[ranet.StagedNetwork, np.ndarray]:
    edge, places = {**TORCHVISION, **TIMM}[name]
    network = ranet.add_exits(backbone(name), at=places, input_size=(3, edge, edge))
    return network, np.random.default_rng(0).standard_normal((9, 3, edge, edge), dtype=np.float32)


def policy_between(logits: torch.Tensor) -> ExitPolicy:
    """A policy by which a third or so of the images leave at each exit; no threshold is next to a confidence."""
    confidences = np.sort(torch.softmax(logits, dim=2).amax(dim=2).numpy(), axis=1)
    return ExitPolicy(tuple(float(each[5:7].mean()) for each in confidences[:-1]))


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_engines_answer_as_the_replay(name: str) -> None:
    network, images = network_of(name)
    logits = all_logits(network, images)
    policy = policy_between(logits)
    for runtime in RUNTIMES:
        sizes = [len(images)] if runtime == "openvino" else None
        answers = EarlyExitEngine(network, policy, backend=runtime, batch_sizes=sizes)(images)
        check_answers(answers, policy, logits)
        assert len(set(answers.exits.tolist())) > 1


@pytest.mark.skipif("onnxruntime" not in RUNTIMES, reason="needs the extra onnx")
def test_an_exported_folder_answers_as_the_network(tmp_path: Path) -> None:
    network, images = network_of("resnet18")
    logits = all_logits(network, images)
    policy = policy_between(logits)
    ranet.export_engine(network, policy, tmp_path / "folder")
    check_answers(EarlyExitEngine(tmp_path / "folder", backend="onnxruntime")(images), policy, logits)


def test_it_is_timed() -> None:
    network, _ = network_of("resnet18")
    profile = ranet.measure_latency(network, backend="torch", min_run_time=0.01)
    assert (profile.num_exits, profile.batch_size) == (4, 1)
