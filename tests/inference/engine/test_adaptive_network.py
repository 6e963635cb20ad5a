"""A network that skips inside works everywhere: costs, scores, calibration, evaluation, engine and export."""

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import ranet
from ranet import EarlyExitEngine, ExitPolicy, ExitScores, UserError
from ranet.calibration import POLICIES, CostTable, calibrate_each, evaluate_policy
from ranet.calibration.policies.exit_policy import load_policy
from ranet.cost.table import image_costs
from ranet.evaluation.curves.anytime import anytime_curve
from ranet.evaluation.policies.drift import measure_drift
from ranet.evaluation.policies.promise_and_truth import policy_report
from ranet.models.staged import State

CLASSES, WIDTH = 5, 6
IMAGES = np.random.default_rng(0).standard_normal((60, 3, 12, 12), dtype=np.float32)
BLOCK = 2 * 12 * 12 * 9 * WIDTH * WIDTH  # multiply-adds of a residual branch
FIXED = [12 * 12 * 9 * 3 * WIDTH, WIDTH, WIDTH, WIDTH * CLASSES]  # entry, two gates, head


class Skipping(ranet.StagedNetwork):
    """Two residual blocks, each with a gate that decides about its branch; an exit at the end, or behind each block."""

    def __init__(self, exits: int) -> None:
        super().__init__(CLASSES, image_size=12)
        self.entry = nn.Conv2d(3, WIDTH, 3, padding=1)
        self.branches = nn.ModuleList(
            nn.Sequential(nn.Conv2d(WIDTH, WIDTH, 3, padding=1), nn.ReLU(), nn.Conv2d(WIDTH, WIDTH, 3, padding=1))
            for _ in range(2)
        )
        self.gates = nn.ModuleList(nn.Linear(WIDTH, 1) for _ in range(2))
        self.heads = nn.ModuleList(nn.Linear(WIDTH, CLASSES) for _ in range(exits))

    @property
    def optional_parts(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("branches.0", "branches.1")

    def stem(self, images: Tensor) -> State:
        return torch.zeros_like(images[:, :2, 0, 0]), self.entry(images)

    def advance(self, k: int, state: State) -> State:
        record, maps = state
        for block in (k,) if len(self.heads) == 2 else (0, 1):
            opens = (self.gates[block](maps.mean(dim=(2, 3))) > 0).to(maps.dtype)
            maps = maps + opens[..., None, None] * self.branches[block](maps)
            record = torch.cat([record[:, :block], opens, record[:, block + 1 :]], dim=1)
        return record, maps

    def answer(self, k: int, state: State) -> Tensor:
        return self.heads[k](state[1].mean(dim=(2, 3)))


@pytest.fixture(scope="module", params=[1, 2], ids=["one exit", "two exits"])
def network(request: pytest.FixtureRequest) -> Skipping:
    torch.manual_seed(1)
    network = Skipping(request.param)
    with torch.no_grad():
        for module in (*network.heads, *network.gates):
            module.weight.mul_(30)
        maps = network.entry(torch.from_numpy(IMAGES))
        for branch, gate in zip(network.branches, network.gates, strict=True):  # each opens for half of the images
            gate.bias.copy_(-gate(maps.mean(dim=(2, 3))).quantile(0.5))
            maps = maps + (gate(maps.mean(dim=(2, 3))) > 0)[..., None, None] * branch(maps)
    return network.eval()


def by_hand(network: Skipping) -> tuple[Any, Any]:
    """Logits (K, N, C) and what was executed (K, N, P), image by image with branches that are not called."""
    exits = len(network.heads)
    logits, executed = np.zeros((exits, len(IMAGES), CLASSES), np.float32), np.zeros((exits, len(IMAGES), 2), bool)
    with torch.no_grad():
        for n, image in enumerate(torch.from_numpy(IMAGES)):
            maps, opened = network.entry(image[None]), [False, False]
            for block in range(2):
                opened[block] = network.gates[block](maps.mean(dim=(2, 3))).item() > 0
                if opened[block]:
                    maps = maps + network.branches[block](maps)
                if exits == 2 or block == 1:
                    k = block if exits == 2 else 0
                    logits[k, n], executed[k, n] = network.heads[k](maps.mean(dim=(2, 3)))[0], opened
    return logits, executed


@pytest.fixture(scope="module")
def scores(network: Skipping) -> ExitScores:
    labels = torch.arange(len(IMAGES)) % CLASSES
    found = ExitScores.collect(network, DataLoader(TensorDataset(torch.from_numpy(IMAGES), labels), 7))
    logits, executed = by_hand(network)
    np.testing.assert_array_equal(found.executed, executed)
    assert 0.2 < executed[-1].mean() < 0.8
    np.testing.assert_allclose(found.confidence, ExitScores.from_logits(logits).confidence, atol=1e-5)
    return found


@pytest.fixture(scope="module")
def policy(network: Skipping, scores: ExitScores) -> ExitPolicy:
    """Solved for a budget in the middle of what is possible."""
    costs = ranet.measure_costs(network).table("macs").of_images(scores.executed)
    found = ranet.calibrate(scores, costs, float(costs.means.mean()), unit="macs", alternatives=False).policy
    # Runtimes round differently: no image may lie on the threshold itself.
    return replace(found, thresholds=tuple(threshold - 1e-4 for threshold in found.thresholds))


def test_its_costs_are_counted_by_part(network: Skipping) -> None:
    costs = ranet.measure_costs(network)
    for unit in ("macs", "paper_ops"):
        assert costs.table(unit).parts.tolist() == [BLOCK + (unit == "paper_ops") * 12 * 12 * WIDTH] * 2
    if network.num_exits == 1:
        assert costs.macs_per_exit == [sum(FIXED)]
    else:
        entry, first, second, head = FIXED
        assert costs.table("macs").stages[0].tolist() == [entry + first + head, entry + first + second + head]
    assert (costs.optional_parts, costs.uncounted) == (("branches.0", "branches.1"), ())


def costs_by_hand(network: Skipping, scores: ExitScores) -> Any:
    """(K, N)."""
    macs = np.array(ranet.measure_costs(network).macs_per_exit)
    return macs[:, None] + BLOCK * by_hand(network)[1].sum(axis=2)


def test_policies_are_solved_on_the_costs_of_each_image(network: Skipping, scores: ExitScores, tmp_path: Path) -> None:
    by_image, table = costs_by_hand(network, scores), ranet.measure_costs(network).table("macs")
    costs = table.of_images(scores.executed)
    np.testing.assert_array_equal(costs.all, by_image)
    np.testing.assert_array_equal(anytime_curve(scores, table).cost, by_image.mean(axis=1))
    least, most = by_image.mean(axis=1)[[0, -1]]
    for family in POLICIES:
        for one in calibrate_each(scores, costs, np.linspace(least, most, 5), policy=family, alternatives=False):
            exits = one.policy.exits(scores)
            mean = by_image[exits, np.arange(len(IMAGES))].mean()
            budget = one.policy.promise.budget
            assert one.predicted_cost == pytest.approx(mean)
            assert mean <= budget * (1 + 1e-9)
            assert one.cost_interval[0] < mean < one.cost_interval[1]
            assert evaluate_policy(one.policy, scores, table).mean_cost == pytest.approx(mean)
            if family == "one_threshold" and network.num_exits == 2:
                # No other common threshold spends more within the budget.
                others = [
                    by_image[(scores.confidence[0] < t).astype(int), np.arange(len(IMAGES))].mean()
                    for t in [*scores.confidence[0], 2.0]
                ]
                assert mean == pytest.approx(max(other for other in others if other <= budget * (1 + 1e-9)))
    one.policy.save(tmp_path / "policy.json")
    assert load_policy(tmp_path / "policy.json").promise.part_costs.tolist() == [BLOCK] * 2


def test_exits_are_chosen_where_cuts_cost_time(network: Skipping, scores: ExitScores) -> None:
    exits = network.num_exits
    stages = np.triu(np.full((exits, exits), 1.0) + np.triu(np.ones((exits, exits)), 1))
    table = CostTable("ms", stages, parts=[0.5, 0.25])
    added = by_hand(network)[1] @ np.array([0.5, 0.25])
    budget = table.alone[-1] + added[-1].mean()
    found = ranet.calibrate(scores, table, budget)
    used, left = found.used_exits, found.policy.exits(scores)
    cost = table.cumulative(sorted({*used, exits - 1}))[left] + added[left, np.arange(len(IMAGES))]
    assert found.predicted_cost == pytest.approx(cost.mean())
    assert cost.mean() <= budget + 1e-9
    assert found.policy.promise.unit == "ms"


def test_what_it_promises_is_compared_with_other_images(
    network: Skipping, scores: ExitScores, policy: ExitPolicy
) -> None:
    again = scores.subset(np.random.default_rng(0).permutation(len(IMAGES)))
    report, drift = policy_report(policy, again), measure_drift(policy, again)
    assert report.seen.mean_cost == pytest.approx(policy.promise.cost) == drift.cost
    assert report.cost_difference is not None
    assert not report.cost_difference.significant
    # Images that execute all optional parts cost more, although they leave at the same exits.
    dearer = ExitScores(**{**again._arrays, "executed": np.ones_like(again.executed)})
    assert measure_drift(policy, dearer).cost_shifted
    assert policy_report(policy, dearer).cost_difference.significant  # type: ignore[union-attr]
    without = ExitScores(scores.confidence, scores.prediction, labels=scores.labels)
    with pytest.raises(UserError, match="count 2 optional parts of the network, and the scores do not say which"):
        policy_report(policy, without)


@pytest.mark.parametrize("backend", ["torch", pytest.param("onnxruntime", marks=pytest.mark.slow), "openvino"])
def test_the_engine_says_what_each_image_executed(
    backend: str, network: Skipping, scores: ExitScores, policy: ExitPolicy, tmp_path: Path
) -> None:
    if backend != "torch" and not (find_spec(backend) and find_spec("onnx")):
        pytest.skip(f"needs {backend}")
    logits, executed = by_hand(network)
    exits, images = policy.exits(scores), np.arange(len(IMAGES))
    engines = [EarlyExitEngine(network, policy, backend=backend)]
    if backend != "torch":
        ranet.export_engine(network, policy, tmp_path / "engine", all_exits=True)
        engines.append(EarlyExitEngine(tmp_path / "engine", backend=backend))
    for engine in engines:
        for answers in (
            engine(IMAGES),
            *engine.stream([IMAGES], batch_size=8),
            engine(IMAGES, policy=ExitPolicy(policy.thresholds)),
            engine(IMAGES[:1]),
        ):
            n = len(answers)
            np.testing.assert_array_equal(answers.exits, exits[:n])
            np.testing.assert_allclose(answers.logits, logits[exits, images][:n], rtol=1e-4, atol=1e-4)
            np.testing.assert_array_equal(answers.executed, executed[exits, images][:n])
            np.testing.assert_allclose(answers.costs, costs_by_hand(network, scores)[exits, images][:n])
        parts = list(engine.stream([IMAGES[:25], IMAGES[25:]]))
        np.testing.assert_array_equal(np.concatenate([a.executed for a in parts]), executed[exits, images])
        engine.prepare([8])
        late = engine(IMAGES[:8], deadline=1e6)
        np.testing.assert_array_equal(late.executed, executed[late.exits, images[:8]])
        assert late.rows(np.array([3])).executed.tolist() == [late.executed[3].tolist()]


def test_its_stages_are_timed(network: Skipping) -> None:
    profile = ranet.measure_latency(network, batch_size=2, backend="torch", min_run_time=0.001)
    assert profile.num_exits == network.num_exits


def test_scores_keep_what_was_executed(scores: ExitScores, tmp_path: Path) -> None:
    scores.save(tmp_path / "scores.npz")
    np.testing.assert_array_equal(ExitScores.load(tmp_path / "scores.npz").executed, scores.executed)
    both = ExitScores.concatenate([scores.subset(slice(0, 20)), scores.subset(slice(20, None))])
    np.testing.assert_array_equal(both.executed, scores.executed)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (("branches.7",), "optional_parts names 'branches.7', and it has no such submodule"),
        (("branches.0",), r"must return the record of the executed parts \(2, 1\) as the first tensor"),
    ],
)
def test_a_record_that_does_not_fit_is_named(parts: tuple[str, ...], message: str) -> None:
    class Other(Skipping):
        optional_parts = parts  # type: ignore[assignment]

    with pytest.raises(UserError, match=message):
        EarlyExitEngine(Other(1), ExitPolicy(()), backend="torch")


def test_costs_of_parts_need_a_record() -> None:
    with pytest.raises(UserError, match="count 2 optional parts of the network, and the scores are of 3"):
        image_costs(np.array([1.0]), np.array([1.0, 2.0]), np.zeros((1, 4, 3), bool))
