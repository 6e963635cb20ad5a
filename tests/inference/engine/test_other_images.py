"""A network for grey images that are not square works wherever one for square RGB images does."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import ranet
from ranet import EarlyExitEngine, ExitPolicy, UserError
from ranet.benchmark.rivals import find_rivals
from ranet.models import list_networks
from ranet.models.papers.layers import ConvNormReLU
from tests.inference.replay import all_logits, check_answers

SHAPE = (1, 28, 40)
IMAGES = np.random.default_rng(0).standard_normal((40, *SHAPE), dtype=np.float32)


class Grey(ranet.StagedNetwork):
    """Three exits behind convolutions of stride 2."""

    def __init__(self) -> None:
        super().__init__(num_classes=4, image_size=SHAPE[1:], in_channels=1)
        self.blocks = nn.ModuleList(ConvNormReLU(a, b, kernel=3, stride=2) for a, b in ((1, 4), (4, 8), (8, 8)))
        self.heads = nn.ModuleList(nn.Linear(width, 4) for width in (4, 8, 8))

    def stem(self, images: Tensor) -> tuple[Tensor, ...]:
        return (images,)

    def advance(self, k: int, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (self.blocks[k](state[0]),)

    def answer(self, k: int, state: tuple[Tensor, ...]) -> Tensor:
        return self.heads[k](state[0].mean(dim=(2, 3)))


@pytest.fixture(scope="module")
def network() -> Grey:
    torch.manual_seed(0)
    network = Grey()
    with torch.no_grad():
        network(torch.randn(16, *SHAPE))  # statistics of batch normalisation
        for head in network.heads:
            head.weight.mul_(20)  # so that scores differ
    return network.eval()


@pytest.fixture(scope="module")
def policy(network: Grey) -> ExitPolicy:
    """Solved on its own images: costs, scores and the calibrator take them as they are."""
    labels = all_logits(network, IMAGES)[-1].argmax(1)
    scores = ranet.ExitScores.collect(network, DataLoader(TensorDataset(torch.from_numpy(IMAGES), labels), 8))
    macs = ranet.measure_costs(network).macs_per_exit
    # By hand: convolutions on half the sides, then a linear layer.
    first = 14 * 20 * 9 * 1 * 4 + 4 * 4
    assert macs[:2] == [first, first + 7 * 10 * 9 * 4 * 8 + 8 * 4]
    found = ranet.calibrate(scores, macs, budget=0.9 * macs[-1]).policy
    assert len(set(found.exits(scores))) > 1
    return found


@pytest.mark.parametrize("backend", ["torch", "onnxruntime", "openvino"])
def test_the_engine_answers_as_the_replay(backend: str, network: Grey, policy: ExitPolicy, tmp_path: Path) -> None:
    if backend != "torch" and not (find_spec(backend) and find_spec("onnx")):
        pytest.skip(f"needs {backend}")
    logits = all_logits(network, IMAGES)
    engine = EarlyExitEngine(network, policy, backend=backend)
    check_answers(engine(IMAGES), policy, logits)
    for i in range(3):
        assert engine(IMAGES[i : i + 1]).exits[0] == engine(IMAGES).exits[i]
    streamed = list(engine.stream([IMAGES[:25], IMAGES[25:]]))
    assert np.concatenate([answers.exits for answers in streamed]).tolist() == engine(IMAGES).exits.tolist()
    with pytest.raises(UserError, match=r"reads images \(N, 1, 28, 40\), and these are \(2, 3, 28, 40\)"):
        engine(np.zeros((2, 3, 28, 40), np.float32))
    if backend != "torch":
        ranet.export_engine(network, policy, tmp_path / "engine")
        check_answers(EarlyExitEngine(tmp_path / "engine", backend=backend)(IMAGES), policy, logits)


def test_its_stages_are_timed(network: Grey) -> None:
    assert ranet.measure_latency(network, batch_size=2, backend="torch", min_run_time=0.001).image_size == SHAPE[1:]


def test_rivals_read_what_it_reads(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"The rival resnet18 cannot read images of shape \(1, 28, 40\)"):
        find_rivals(["resnet18"], 4, SHAPE)


@pytest.mark.parametrize("name", list_networks("*_tiny"))
def test_the_papers_networks_read_them_too(name: str) -> None:
    network = ranet.create_network(name, image_size=[32, 40], in_channels=1).eval()
    assert network.input_spec.shape == (1, 32, 40)
    assert network(torch.zeros(2, 1, 32, 40)).shape == (network.num_exits, 2, 10)
    square = ranet.create_network(name, in_channels=1)
    assert ranet.measure_costs(network).macs_per_exit[0] > ranet.measure_costs(square).macs_per_exit[0]
    assert ranet.InlineCollaboration(network)(torch.zeros(2, 1, 32, 40)).shape == (network.num_exits, 2, 10)


@pytest.mark.parametrize("size", [0, True, 2.5, "32", (32,), (32, 0), (1, 2, 3)])
def test_a_size_is_one_number_or_two(size: object) -> None:
    with pytest.raises(UserError, match="must be an integer of at least 1, or two of them"):
        ranet.create_network("msdnet_tiny", image_size=size)
