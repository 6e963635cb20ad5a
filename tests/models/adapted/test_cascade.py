"""Cascades: the replay of their members, members that are left out, and the engine."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import ranet
from ranet import EarlyExitEngine, ExitPolicy, ExitScores, UserError
from ranet.models.staged import StagedNetwork, State
from tests.inference.replay import all_logits, check_answers

CLASSES = 4
IMAGES = np.random.default_rng(0).standard_normal((30, 3, 12, 10), dtype=np.float32)


class Small(StagedNetwork):
    """Convolutions with an exit behind each."""

    def __init__(self, widths: tuple[int, ...], size: tuple[int, int] = (12, 10), seed: int = 0) -> None:
        super().__init__(CLASSES, size)
        torch.manual_seed(seed)
        self.layers = nn.ModuleList(
            nn.Conv2d(a, b, 3, padding=1) for a, b in zip((3, *widths[:-1]), widths, strict=True)
        )
        self.heads = nn.ModuleList(nn.Linear(width, CLASSES) for width in widths)
        with torch.no_grad():
            for head in self.heads:
                head.weight.mul_(10)

    def stem(self, images: Tensor) -> State:
        return (images,)

    def advance(self, k: int, state: State) -> State:
        return (torch.relu(self.layers[k](state[0])),)

    def answer(self, k: int, state: State) -> Tensor:
        return self.heads[k](state[0].mean(dim=(2, 3)))


def plain(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, CLASSES))


def members() -> list[nn.Module]:
    return [Small((4,), seed=1), Small((3, 6), seed=2), plain(3)]


@pytest.fixture(scope="module", params=["last", "mean"])
def cascade(request: pytest.FixtureRequest) -> ranet.Cascade:
    return ranet.Cascade(members(), combine=request.param, input_size=(3, 12, 10)).eval()


def by_hand(weights: list[float] | None, images: Tensor) -> Tensor:
    """(K, N, C) softmax of each exit: the member's, or the weighted mean over the members' last exits so far."""
    answers, done = [], []
    with torch.no_grad():
        for m, member in enumerate(members()):
            logits = member(images)
            probabilities = (logits if logits.ndim == 3 else logits[None]).softmax(dim=2)
            for own in probabilities:
                if weights is None:
                    answers.append(own)
                else:
                    parts = [*done, weights[m] * own]
                    answers.append(sum(parts) / sum(weights[: m + 1]))
            done.append((1 if weights is None else weights[m]) * probabilities[-1])
    return torch.stack(answers)


@pytest.mark.parametrize("weights", [None, [1.0, 1.0, 1.0], [0.5, 2.0, 1.25]])
def test_its_answers_are_those_of_its_members(weights: list[float] | None) -> None:
    combine = "last" if weights is None else "mean"
    network = ranet.Cascade(members(), combine=combine, weights=weights, input_size=(3, 12, 10)).eval()
    images = torch.from_numpy(IMAGES)
    assert (network.num_exits, network.num_classes, network.image_shape) == (4, CLASSES, (3, 12, 10))
    with torch.no_grad():
        torch.testing.assert_close(network(images).softmax(dim=2), by_hand(weights, images), rtol=1e-5, atol=1e-6)


def test_a_sure_answer_does_not_overflow() -> None:
    """Probabilities that float32 cannot tell from 0 have a logarithm still."""
    network = ranet.Cascade(members(), combine="mean", input_size=(3, 12, 10)).eval()
    with torch.no_grad():
        for member in network.members:
            for parameter in member.parameters():
                parameter.mul_(30)
        logits = network(torch.from_numpy(IMAGES))
    assert logits.isfinite().all()
    torch.testing.assert_close(logits.softmax(dim=2).sum(dim=2), torch.ones(4, 30))


@settings(max_examples=20, deadline=None)
@given(used=st.sets(st.integers(0, 2)).map(lambda chosen: sorted({*chosen, 3})))
def test_members_that_are_left_out_are_not_run(used: list[int]) -> None:
    """A fused stage of members that answer alone is the last member alone, and costs what that one costs."""
    network = ranet.Cascade(members(), input_size=(3, 12, 10)).eval()
    images = torch.from_numpy(IMAGES)
    called: list[int] = []
    for m, member in enumerate(network.members):
        first = next(module for module in member.modules() if isinstance(module, nn.Conv2d))
        first.register_forward_hook(lambda *_, m=m: called.append(m))
    whole = network(images)
    called.clear()
    owner = [0, 1, 1, 2]
    state, ran = network.stem(images), set()
    with torch.no_grad():
        before = -1
        for at in used:
            state, logits = network.run(before + 1, at, state)
            torch.testing.assert_close(logits, whole[at], rtol=1e-5, atol=1e-6)
            state, before = network.carry(at, state, logits), at
            ran.add(owner[at])
    assert set(called) == ran
    table = ranet.measure_costs(network).table("macs")
    parts = [ranet.measure_costs(member).table("macs") for member in network.members]
    own = [parts[0].stages[0, 0], parts[1].stages[0, 0], parts[1].stages[0, 1], parts[2].stages[0, 0]]
    assert table.stages[0].tolist() == own
    assert table.stages[1, 2] == own[2]
    assert table.stages[2, 2] == parts[1].stages[1, 1]
    assert table.stages[1, 3] == table.stages[2, 3] == table.stages[3, 3] == own[3]


def test_averages_need_all_members_before_them() -> None:
    costs = ranet.measure_costs(ranet.Cascade(members(), combine="mean", input_size=(3, 12, 10))).table("macs")
    assert costs.stages[0, 3] == costs.cumulative()[3]


@pytest.mark.parametrize("backend", ["torch", "onnxruntime", "openvino"])
@pytest.mark.parametrize("used", [(0, 2), *(pytest.param(each, marks=pytest.mark.slow) for each in ((0, 1, 2), (1,)))])
def test_the_engine_answers_as_the_replay(
    backend: str, used: tuple[int, ...], cascade: ranet.Cascade, tmp_path: Path
) -> None:
    if backend != "torch" and not (find_spec(backend) and find_spec("onnx")):
        pytest.skip(f"needs {backend}")
    logits = all_logits(cascade, IMAGES)
    scores = ExitScores.from_logits(logits)
    # Between two scores, which runtimes round differently.
    middle = [float(np.quantile(scores.confidence[k], 0.5)) if k in used else np.inf for k in range(3)]
    policy = ExitPolicy(tuple(middle))
    assert len(set(policy.exits(scores))) > 1
    engines = [EarlyExitEngine(cascade, policy, backend=backend)]
    if backend != "torch":
        ranet.export_engine(cascade, policy, tmp_path / "engine")
        engines.append(EarlyExitEngine(tmp_path / "engine", backend=backend))
    for engine in engines:
        check_answers(engine(IMAGES), policy, logits)
        check_answers(engine(IMAGES[:1]), policy, logits[:, :1])
        streamed = list(engine.stream([IMAGES[:11], IMAGES[11:]], batch_size=8))
        assert np.concatenate([answers.exits for answers in streamed]).tolist() == engine(IMAGES).exits.tolist()


def test_members_of_several_sizes_read_their_rows() -> None:
    """Two sizes of one picture, one below the other; the larger one's rows go on alone."""
    small, large = Small((4,), size=(6, 5), seed=1), Small((5,), size=(12, 10), seed=2)
    network = ranet.Cascade([small, large], rows=[0, 6]).eval()
    assert network.image_shape == (3, 18, 10)
    images = torch.randn(7, 3, 18, 10)
    with torch.no_grad():
        wanted = [small(images[:, :, :6, :5])[0], large(images[:, :, 6:])[0]]
        torch.testing.assert_close(network(images), torch.stack(wanted))
        state = network.advance(0, network.stem(images))
        assert network.carry(0, state, wanted[0])[0].shape == (7, 3, 12, 10)
        torch.testing.assert_close(network.forward_to(images, 1), wanted[1])


@pytest.mark.parametrize(
    ("made", "options", "message"),
    [
        ([], {}, "one or more members"),
        ([plain(0)], {}, "does not say which images it reads: add input_size"),
        ([plain(0)], {"input_size": (1, 12, 10)}, "cannot read images of shape"),
        ([nn.Conv2d(3, 4, 1)], {"input_size": (3, 4, 4)}, "must answer 2 images with logits"),
        (["resnet18"], {}, "must be a torch.nn.Module, not str"),
        (members(), {"combine": "sum"}, "Unknown combine 'sum'"),
        (members(), {"weights": [1, 2, 3]}, "weights= are for combine='mean'"),
        (members(), {"combine": "mean", "weights": [1, 2]}, "a positive number for each of the 3 members"),
        (members(), {"combine": "mean", "weights": [1, 2, 0]}, "a positive number for each of the 3 members"),
        ([Small((4,)), Small((4,), size=(6, 6))], {}, "images of different shapes .* give the rows"),
    ],
)
def test_what_is_no_cascade_is_named(made: list[nn.Module], options: dict, message: str) -> None:
    size = {} if "does not say" in message else {"input_size": (3, 12, 10)}
    with pytest.raises(UserError, match=message):
        ranet.Cascade(made, **{**size, **options})


def test_members_have_the_same_classes() -> None:
    other = nn.Sequential(nn.Flatten(), nn.Linear(360, 7))
    with pytest.raises(UserError, match="must have the same classes, not 4, 7"):
        ranet.Cascade([Small((4,)), other], input_size=(3, 12, 10))


def test_averages_cannot_have_exits_that_build_on_each_other() -> None:
    collaborating = ranet.InlineCollaboration(ranet.create_network("msdnet_tiny"))
    with pytest.raises(UserError, match="exits build on each other"):
        ranet.Cascade([collaborating, ranet.create_network("ranet_tiny")], combine="mean")
    ranet.Cascade([collaborating, ranet.create_network("ranet_tiny")])
