"""A network of the user's own: the class in the README is all that anything needs, and mistakes are named."""

import importlib.util
import re
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import ranet
from ranet import EarlyExitEngine, ExitPolicy, StagedNetwork, UserError
from ranet.inference.graphs.of_network import NetworkGraphs
from ranet.inference.stages.fused_stages import FusedStage
from ranet.inference.stages.prepared import prepared
from ranet.models import LinearHeads
from ranet.models.papers.layers import ExitHead
from tests.inference.networks import trained_looking
from tests.inference.replay import all_logits, check_answers

README = (Path(__file__).resolve().parents[3] / "README.md").read_text()
IMAGES = np.random.default_rng(0).standard_normal((70, 3, 32, 32), dtype=np.float32)
BACKENDS = [
    "torch",
    pytest.param("onnxruntime", marks=pytest.mark.skipif(not find_spec("onnxruntime"), reason="needs the extra onnx")),
    pytest.param("openvino", marks=pytest.mark.skipif(not find_spec("openvino"), reason="needs the extra openvino")),
]


def my_network() -> Any:
    """The class that the README shows."""
    (block,) = [block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "(ranet.Staged" in block]
    names: dict[str, Any] = {"ranet": ranet}
    exec(block, names)
    return names["MyNetwork"]


MyNetwork = my_network()


@cache
def network() -> StagedNetwork:
    torch.manual_seed(0)
    return trained_looking(MyNetwork(), 0)


@cache
def policy() -> ExitPolicy:
    confidence = all_logits(network(), IMAGES).softmax(dim=-1).amax(dim=-1)
    return ExitPolicy(tuple(float(each.quantile(0.6)) for each in confidence[:-1]))


@cache
def exported(folder: Path) -> Path:
    ranet.export_engine(network(), policy(), folder)
    return folder


def test_it_is_as_short_as_the_readme_says() -> None:
    (block,) = [block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "(ranet.Staged" in block]
    assert len(block.splitlines()) <= 30
    assert re.findall(r"def (\w+)", block) == ["__init__", "stem", "advance", "answer"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_backend_answers_as_the_policy_replayed(backend: str) -> None:
    engine, logits = EarlyExitEngine(network(), policy(), backend=backend), all_logits(network(), IMAGES)
    answers = engine(IMAGES)
    assert len(set(answers.exits.tolist())) == 3
    check_answers(answers, policy(), logits)
    for i in range(3):
        check_answers(engine(IMAGES[i : i + 1]), policy(), logits[:, i : i + 1])
    (streamed,) = engine.stream([IMAGES], batch_size=16)
    check_answers(streamed, policy(), logits)
    capped = engine(IMAGES, max_exit=0)
    np.testing.assert_allclose(capped.logits, logits[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS[1:])
def test_its_export_answers_alike(backend: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = exported(tmp_path_factory.getbasetemp() / "my_network")
    check_answers(EarlyExitEngine(folder, backend=backend)(IMAGES), policy(), all_logits(network(), IMAGES))


def test_its_costs_are_those_of_its_layers() -> None:
    costs = ranet.measure_costs(network())
    convolutions = [16 * 16 * 16 * 3 * 9, 8 * 8 * 32 * 16 * 9, 4 * 4 * 64 * 32 * 9]
    heads = [16 * 10, 32 * 10, 64 * 10]
    for first, last in combinations_with_replacement(range(3), 2):
        assert costs.table("macs").stages[first, last] == sum(convolutions[first : last + 1]) + heads[last]
    assert costs.lazy == costs.whole
    assert EarlyExitEngine(network(), policy(), backend="torch").unit == "macs"


@pytest.mark.parametrize("equilibrium", [None, "all", "coarsest"])
def test_it_trains(equilibrium: Any) -> None:
    torch.manual_seed(0)
    mine = MyNetwork()
    classifier = ranet.MultiExitClassifier(mine, torch.optim.SGD, Any, equilibrium=equilibrium)  # type: ignore[arg-type]
    batch = torch.from_numpy(IMAGES[:8]), torch.arange(8)
    optimizer = torch.optim.SGD(mine.parameters(), lr=0.1)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = classifier.training_step(batch, 0)
        loss.backward()
        assert all(parameter.grad is not None for parameter in mine.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_its_scores_are_calibrated() -> None:
    labels = all_logits(network(), IMAGES)[-1].argmax(dim=-1)
    scores = ranet.ExitScores.collect(network(), [(torch.from_numpy(IMAGES), labels)])
    costs = ranet.measure_costs(network()).macs_per_exit
    result = ranet.calibrate(scores, costs, budget=0.8 * costs[-1])
    assert result.predicted_cost <= 0.8 * costs[-1]
    assert scores.correct[-1].all()


class Counted(MyNetwork):
    """Sets the number of its exits and calls its heads otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self.last_layers, self.num_exits = self.heads, 3
        del self.heads

    def answer(self, k: int, state: tuple[Tensor, ...]) -> Tensor:
        return self.last_layers[k](state[0].mean(dim=(2, 3)))


def test_heads_may_be_called_otherwise() -> None:
    answers = EarlyExitEngine(Counted(), ExitPolicy((2.0, 2.0)), backend="torch")(IMAGES[:2])
    assert answers.exits.tolist() == [2, 2]


class Linear(LinearHeads, MyNetwork):
    """Has heads with a linear layer, and says what that reads."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.ModuleList(ExitHead(width, 10, "cifar") for width in (16, 32, 64))

    def features(self, k: int, state: tuple[Tensor, ...]) -> Tensor:
        return self.heads[k].features(state[-1])


def test_with_linear_heads_its_exits_may_collaborate() -> None:
    together = ranet.InlineCollaboration(Linear()).eval()
    policy = ExitPolicy((0.2, 0.2))
    check_answers(EarlyExitEngine(together, policy, backend="torch")(IMAGES), policy, all_logits(together, IMAGES))
    with pytest.raises(UserError, match=r"^MyNetwork does not derive from ranet\.models\.LinearHeads, which"):
        ranet.InlineCollaboration(MyNetwork())


def changed(name: str, value: Any) -> Callable[[], StagedNetwork]:
    """Networks as the README's but for one method."""
    return type("Mine", (MyNetwork,), {name: value})


def with_attribute(name: str, value: Any = None) -> Callable[[], StagedNetwork]:
    """Networks as the README's but for one attribute, which they lack where the value is None."""

    def make() -> StagedNetwork:
        network = type("Mine", (MyNetwork,), {})()
        delattr(network, name)
        if value is not None:
            setattr(network, name, value)
        return network

    return make


def in_place(self: Any, k: int, state: tuple[Tensor, ...]) -> Tensor:
    return self.heads[k](state[0].neg_().mean(dim=(2, 3)))


STATE = r"must return a tuple of floating-point tensors, each with the images in dimension 0; "
MISTAKES: dict[str, tuple[Callable[[], StagedNetwork], str]] = {
    "no num_classes": (with_attribute("num_classes"), r"Mine has no attribute num_classes: begin its __init__ with "),
    "no image_size": (with_attribute("image_size"), r"Mine has no attribute image_size: begin its __init__ with "),
    "num_classes": (
        with_attribute("num_classes", 10.0),
        r"Mine.num_classes must be an integer of at least 1, not ",
    ),
    "no heads": (with_attribute("heads"), r"Mine has no attribute heads: give it an nn.ModuleList with a module for "),
    "list": (with_attribute("heads", [1]), r"Mine.heads must be an nn.ModuleList, not a list, or its weights are "),
    "no exits": (
        with_attribute("heads", nn.ModuleList()),
        r"Mine.num_exits must be an integer of at least 1, not 0",
    ),
    "stem": (changed("stem", lambda self, x: x), rf"Mine.stem {STATE}it returned a Tensor; "),
    "list of": (
        changed("advance", lambda self, k, s: [s[0], 1]),
        rf"Mine.advance {STATE}it returned a list of Tensor, ",
    ),
    "integers": (
        changed("stem", lambda self, x: (x, x.long())),
        rf"Mine.stem {STATE}for 2 images it returned one of shape \(2, 3, 32, 32\) and type int64; ",
    ),
    "batch": (
        changed("advance", lambda self, k, s: (self.blocks[k](s[0]), s[0][0])),
        rf"Mine.advance {STATE}for 2 images it returned one of shape \(3, 32, 32\) and type float32; ",
    ),
    "logits": (
        changed("answer", lambda self, k, s: s[0].mean(dim=(2, 3))),
        r"Mine.answer must return logits \(images, num_classes\), here \(2, 10\); it returned \(2, 16\); ",
    ),
    "in place": (changed("answer", in_place), r"Mine.answer must not change the state, which the next stage "),
    "size": (
        changed("answer", lambda self, k, s: nn.Linear(9, 10)(s[0].flatten(1))),
        r"Mine cannot run on images \(2, 3, 32, 32\), as its image_size says \(mat1 and mat2 shapes cannot be multi",
    ),
}


@pytest.mark.parametrize("case", list(MISTAKES))
def test_what_is_wrong_with_it_is_said_in_one_sentence(case: str) -> None:
    make, message = MISTAKES[case]
    for use in (
        lambda network: EarlyExitEngine(network, ExitPolicy((0.5, 0.5)), backend="torch"),
        lambda network: ranet.MultiExitClassifier(network, torch.optim.SGD, Any),  # type: ignore[arg-type]
        lambda network: ranet.export_engine(network, ExitPolicy((0.5, 0.5)), "never"),
    ):
        with pytest.raises(UserError, match=f"^{message}") as error:
            use(make())
        assert str(error.value).count("\n") == 0
        assert str(error.value).endswith((".", "?"))
    assert not Path("never").exists()


def test_another_kind_of_network_is_told_what_to_be() -> None:
    message = "^A network must be derived from ranet.StagedNetwork, which Conv2d is not; see "
    network: Any = nn.Conv2d(3, 3, 3)
    for use in (
        lambda: EarlyExitEngine(network, ExitPolicy((0.5,)), backend="torch"),
        lambda: ranet.export_engine(network, ExitPolicy((0.5,)), "never"),
        lambda: ranet.measure_costs(network),
        lambda: ranet.measure_latency(network, backend="torch"),
        lambda: ranet.MultiExitClassifier(network, torch.optim.SGD, Any),  # type: ignore[arg-type]
        lambda: ranet.forward_in_stages(network, torch.zeros(1, 3, 8, 8)),
        lambda: ranet.InlineCollaboration(network),
    ):
        with pytest.raises(UserError, match=message):
            use()


class Doubled(nn.Sequential):
    """A sequence that does not run in its own order."""

    def forward(self, x: Tensor) -> Tensor:
        return self[1](2 * self[0](x) + 1)


def test_only_what_runs_in_a_row_is_folded() -> None:
    generator = torch.Generator().manual_seed(0)
    mine = MyNetwork()
    mine.blocks[0] = Doubled(*mine.blocks[0][:2])
    mine.blocks[1][1] = nn.BatchNorm2d(32, track_running_stats=False)
    for norm in (mine.blocks[0][1], mine.blocks[2][1]):
        norm.running_mean = torch.randn(norm.num_features, generator=generator)
    images = torch.from_numpy(IMAGES[:4])
    with torch.no_grad():
        torch.testing.assert_close(prepared(mine)(images), mine.eval()(images), rtol=1e-4, atol=1e-5)
    assert isinstance(prepared(mine).blocks[2][1], nn.Identity)


def test_an_attribute_lazy_is_the_networks_own() -> None:
    mine = changed("advance", lambda self, k, state: (self.blocks[k](state[0]),) if self.lazy == "mine" else None)()
    mine.lazy = "mine"
    assert ranet.measure_costs(mine).macs_per_exit == ranet.measure_costs(network()).macs_per_exit


@pytest.mark.skipif(not find_spec("onnxruntime") or not find_spec("onnx"), reason="needs the extra onnx")
def test_other_code_is_another_graph_wherever_it_stands(tmp_path: Path) -> None:
    graphs = []
    for code in ("x + 1", "x - 1"):
        (tmp_path / "abc_networks.py").write_text(
            "import torch, ranet\n"
            "class Small(ranet.StagedNetwork):\n"
            "    def __init__(self):\n"
            "        super().__init__(num_classes=3, image_size=4)\n"
            "        self.heads = torch.nn.ModuleList([torch.nn.Flatten()])\n"
            "        self.scale = torch.nn.Parameter(torch.ones(1))\n"
            "    def stem(self, x): return (x,)\n"
            f"    def advance(self, k, state): x = state[0]; return (self.scale * ({code}),)\n"
            "    def answer(self, k, state): return state[0].mean(dim=(2, 3))\n"
        )
        spec = importlib.util.spec_from_file_location("abc_networks", tmp_path / "abc_networks.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        graphs.append(NetworkGraphs(module.Small(), tmp_path / "cache").graph(FusedStage(0, 0)).model)
    assert graphs[0] != graphs[1]
