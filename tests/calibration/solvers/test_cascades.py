"""The choice of a cascade against a brute force over members, orders and thresholds."""

from itertools import permutations

import numpy as np
import pytest
import torch

import ranet
from ranet import CostTable, ExitScores, UserError
from ranet.calibration.solvers.cascades import CascadeSearch, Members, cascade_costs, cascade_scores
from ranet.calibration.solvers.geometric import geometric_thresholds
from tests.models.adapted.test_cascade import CLASSES, IMAGES, members


def candidate(skill: float, seed: int, images: int = 400, exits: int = 1) -> ExitScores:
    """Scores of a classifier whose logits rise with its skill; all answer the same images."""
    rng = np.random.default_rng(seed)
    labels = np.random.default_rng(99).integers(5, size=images)
    hard = np.random.default_rng(98).uniform(size=(images, 1))
    skills = np.linspace(0.5 * skill, skill, exits)[:, None, None] if exits > 1 else skill
    logits = rng.normal(size=(exits, images, 5)) + skills * hard * np.eye(5)[labels]
    return ExitScores.from_logits(logits.astype(np.float32), labels, keep_logits=True)


def three(images: int = 400) -> tuple[list[ExitScores], list[CostTable]]:
    skills, costs = (2.0, 3.0, 4.0), (1.0, 2.0, 3.5)
    scores = [candidate(skill, seed, images) for seed, skill in enumerate(skills)]
    return scores, [CostTable.of_exits([cost], "ms") for cost in costs]


@pytest.mark.parametrize("combine", ["last", "mean"])
def test_scores_and_costs_are_those_of_the_network(combine: str) -> None:
    """What is computed from the scores of the members is what the cascade of them answers and costs."""
    networks = [ranet.models.single_exit(m, (3, 12, 10)) if i == 2 else m for i, m in enumerate(members())]
    labels = torch.arange(len(IMAGES)) % CLASSES
    images, tables = torch.from_numpy(IMAGES), [ranet.measure_costs(each).table("macs") for each in networks]
    with torch.no_grad():
        each = [ExitScores.from_logits(network.eval()(images), labels, keep_logits=True) for network in networks]
        for which in ((0, 1, 2), (2, 1), (1, 0)):
            cascade = ranet.Cascade([networks[i] for i in which], combine=combine).eval()
            wanted = ExitScores.from_logits(cascade(images), labels)
            found = cascade_scores(each, Members(which, combine))
            np.testing.assert_allclose(found.confidence, wanted.confidence, rtol=1e-5)
            np.testing.assert_array_equal(found.correct, wanted.correct)
            costs = cascade_costs(tables, Members(which, combine))
            np.testing.assert_allclose(costs.stages, ranet.measure_costs(cascade).table("macs").stages, rtol=1e-3)


def test_the_frontier_is_that_of_a_loop_over_all_candidates() -> None:
    scores, tables = three()
    found = CascadeSearch(scores, tables, most_members=2)
    points = [(float(tables[i].stages[0, 0]), float(scores[i].correct[0].mean())) for i in range(3)]
    for first, second in permutations(range(3), 2):
        for combine in ("last", "mean"):
            both = scores[first].logits[0], scores[second].logits[0]
            p, q = (
                np.exp(z - z.max(1, keepdims=True)) / np.exp(z - z.max(1, keepdims=True)).sum(1)[:, None] for z in both
            )
            late = q if combine == "last" else (p + q) / 2
            stacked = np.float32([p.max(1), late.max(1)])
            for (threshold,) in geometric_thresholds(stacked, np.geomspace(1e-3, 1e3, 76)):
                leaves = stacked[0] >= threshold
                right = np.where(leaves, p.argmax(1), late.argmax(1)) == scores[0].labels
                cost = tables[first].stages[0, 0] + (~leaves).mean() * tables[second].stages[0, 0]
                points.append((cost, right.mean()))
    for budget in np.linspace(1, 5, 15):
        best = max(accuracy for cost, accuracy in points if cost <= budget + 1e-9)
        choice = found.within(budget + 1e-9)
        assert choice is not None
        assert choice.accuracy == pytest.approx(best, abs=1e-9)
    frontier = [(choice.cost, choice.accuracy) for choice in found.frontier]
    assert frontier == sorted(frontier)
    assert [accuracy for _, accuracy in frontier] == sorted(accuracy for _, accuracy in frontier)


def test_what_is_held_out_was_not_chosen_on() -> None:
    """On random scores the search finds a gain, and the images that it did not see do not confirm it."""
    labels = np.random.default_rng(0).integers(2, size=600)
    rng = np.random.default_rng(1)
    scores = [
        ExitScores.from_logits(rng.normal(size=(1, 600, 2)).astype(np.float32), labels, keep_logits=True)
        for _ in range(4)
    ]
    search = CascadeSearch(scores, [CostTable.of_exits([1.0 + i], "ms") for i in range(4)])
    (cost, right), none = search.held_out([10.0, 0.5])  # type: ignore[misc]
    assert search.within(10.0).accuracy > right.mean() + 0.02  # type: ignore[union-attr]
    assert abs(right.mean() - 0.5) < 3 * 0.5 / np.sqrt(600)
    assert 1.0 <= cost <= 10.0
    assert none is None


def test_on_other_images_a_cascade_keeps_what_it_promises() -> None:
    scores, tables = three(images=6000)
    search = CascadeSearch(scores, tables)
    for budget, held in zip([2.0, 3.0, 4.0], search.held_out([2.0, 3.0, 4.0]), strict=True):
        assert held is not None
        choice = search.within(budget)
        assert choice is not None
        assert abs(held[1].mean() - choice.accuracy) < 0.02
        assert held[0] < 1.05 * budget
    assert search.within(3.5).accuracy > search.alone(2).accuracy  # type: ignore[union-attr]


def test_candidates_may_have_exits_of_their_own() -> None:
    scores = [candidate(3.0, 0, exits=2), candidate(4.0, 1)]
    tables = [CostTable.of_exits([1.0, 2.0], "ms"), CostTable.of_exits([3.0], "ms")]
    both = cascade_costs(tables, Members((0, 1)))
    assert both.stages[0].tolist() == [1.0, 2.0, 3.0]
    assert both.stages[1, 1:].tolist() == [1.0, 3.0]
    search = CascadeSearch(scores, tables)
    assert {len(choice.thresholds) for choice in search.choices} == {0, 1, 2}


def test_exits_that_are_not_used_cost_nothing() -> None:
    """The table says that both stages in one are cheaper than one after the other with a head between them."""
    scores = [candidate(3.0, 0, exits=2), candidate(4.0, 1)]
    tables = [CostTable("ms", [[1.0, 1.5], [np.nan, 1.2]]), CostTable.of_exits([3.0], "ms")]
    search = CascadeSearch(scores, tables)
    costs = {tuple(each.thresholds): each.cost for each in search.choices if each.members.which == (0,)}
    assert (costs[np.inf,], costs[-np.inf,]) == (1.5, 1.0)
    assert search.alone(0).cost == 1.5
    assert search.within(1.0).cost == 1.0  # type: ignore[union-attr]
    assert search.within(0.9) is None


def test_without_logits_answers_are_not_averaged() -> None:
    scores, tables = three()
    bare = [ExitScores(each.confidence, each.prediction, labels=each.labels) for each in scores]
    with pytest.raises(UserError, match="no logits: they were not kept"):
        CascadeSearch(bare, tables).frontier  # noqa: B018
    assert CascadeSearch(bare, tables, combines=["last"]).frontier


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s, t: ([], []), "there are 0 scores and 0 costs"),
        (lambda s, t: (s, t[:2]), "there are 3 scores and 2 costs"),
        (lambda s, t: ([s[0], s[1].subset(slice(0, 5)), s[2]], t), "scored on different images"),
        (
            lambda s, t: ([s[0], ExitScores.from_logits(s[1].logits, s[1].labels[::-1].copy()), s[2]], t),
            "different images",
        ),
        (lambda s, t: ([s[0], ExitScores(s[1].confidence), s[2]], t), "needs labels"),
        (lambda s, t: (s, [t[0], CostTable.of_exits([1.0, 2.0], "ms"), t[2]]), "has 1 exits and costs of 2"),
        (lambda s, t: (s, [t[0], CostTable.of_exits([1.0], "macs"), t[2]]), "in different units, ms and macs"),
        (
            lambda s, t: ([s[0], ExitScores.from_logits(s[1].logits, s[1].labels, temperatures=[2.0]), s[2]], t),
            "without temperatures",
        ),
    ],
)
def test_candidates_that_do_not_go_together_are_named(change, message: str) -> None:
    with pytest.raises(UserError, match=message):
        CascadeSearch(*change(*three()))
