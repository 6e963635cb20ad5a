"""Which cascade of the classifiers that there are: members, order, combination and thresholds for a budget."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ranet.calibration.policies.exit_policy import ExitPolicy, first_exits, possible_exits
from ranet.calibration.policies.outcome import evaluate_thresholds
from ranet.calibration.scores.checks import same_temperatures
from ranet.calibration.scores.exit_scores import ExitScores
from ranet.calibration.solvers.cross_fitting import deal
from ranet.calibration.solvers.geometric import geometric_thresholds
from ranet.cost.table import CostTable, ImageCosts
from ranet.errors import UserError

Floats = npt.NDArray[np.float64]
Combine = Literal["last", "mean"]

#: From almost all images at the first exit to almost all at the last, in steps of a factor of 1.2.
RATIOS: Floats = np.geomspace(1e-3, 1e3, 76)
MOST_MEMBERS = 3
FOLDS = 2
_LEAST = 1e-38  # of a probability in float32


@dataclass(frozen=True)
class Members:
    """A cascade by its members.

    Attributes:
        which: indices of the candidates, in the order in which they answer.
        combine: "last" or "mean", see `ranet.Cascade`; of a single member "last".
    """

    which: tuple[int, ...]
    combine: Combine = "last"


@dataclass(frozen=True, eq=False)
class Choice:
    """The cascade chosen for a budget.

    Attributes:
        members: its members.
        thresholds: (K - 1,) thresholds on the confidence; K is the number of its exits.
        cost: mean cost on the images that it was chosen on.
        accuracy: top-1 accuracy on these images, a fraction.
    """

    members: Members
    thresholds: npt.NDArray[np.float32]
    cost: float
    accuracy: float


def cascade_scores(candidates: Sequence[ExitScores], members: Members) -> ExitScores:
    """Return the scores of a cascade, from those of its members on the same images.

    The exits are those of the members, one after the other. For combine="mean" the probabilities of an exit are the
    mean of the member's and those of the last exits of the members before it.

    Raises:
        UserError: if the scores are of other images, or lack the logits that "mean" needs.

    Example:
        >>> one, other = (ExitScores.from_logits(np.float32([[[a, 0]]]), [0], keep_logits=True) for a in (0, 50))
        >>> cascade_scores([one, other], Members((0, 1), "mean")).confidence.round(4).tolist()
        [[0.5], [0.75]]
    """
    chosen = [candidates[i] for i in members.which]
    if members.combine == "last":
        return _stacked(chosen)
    answers, before = [], None
    for scores in chosen:
        own = np.exp(scores.logits - scores.logits.max(axis=2, keepdims=True), dtype=np.float64)
        own /= own.sum(axis=2, keepdims=True)
        summed = own if before is None else own + before
        answers.append(summed)
        before = summed[-1]
    logits = np.log(np.maximum(np.concatenate(answers), _LEAST)).astype(np.float32)
    labels = chosen[0].labels if chosen[0].has("labels") else None
    return ExitScores.from_logits(logits, labels)


def cascade_costs(tables: Sequence[CostTable], members: Members) -> CostTable:
    """Return the costs of a cascade, from those of its members.

    Members that answer alone are left out where they are not used; an average needs all members before it.
    """
    chosen = [tables[i] for i in members.which]
    owners = [(m, j) for m, table in enumerate(chosen) for j in range(table.num_exits)]
    stages = np.zeros((len(owners), len(owners)))
    for a, (m, first) in enumerate(owners):
        for b, (n, last) in enumerate(owners[a:], a):
            if m == n:
                stages[a, b] = chosen[m].stages[first, last]
                continue
            stages[a, b] = chosen[n].stages[0, last]
            if members.combine == "mean":
                stages[a, b] += chosen[m].stages[first, -1] + sum(each.stages[0, -1] for each in chosen[m + 1 : n])
    return CostTable(chosen[0].unit, stages)


class CascadeSearch:
    """The best cascade of some candidates for each budget, under the geometric rule on the confidence.

    All cascades of up to ``most_members`` candidates are compared, in every order and combination, and each candidate
    alone, with all their exits one by one too. Of those within the budget the most accurate wins; of equals, the
    cheapest.

    Args:
        candidates: labelled scores of each candidate on the same images, none of which it was trained on; with logits
            where answers are to be averaged.
        tables: costs of each candidate, in one unit.
        most_members: the largest number of members.
        combines: the combinations to compare.

    Raises:
        UserError: if there are no candidates, or their scores or costs do not go together.
    """

    def __init__(
        self,
        candidates: Sequence[ExitScores],
        tables: Sequence[CostTable],
        *,
        most_members: int = MOST_MEMBERS,
        combines: Iterable[Combine] = ("last", "mean"),
    ) -> None:
        _check(candidates, tables)
        self.candidates = list(candidates)
        self.tables = list(tables)
        self.most_members = most_members
        self.combines = tuple(combines)
        self.cascades = [Members((i,)) for i in range(len(candidates))]
        for size in range(2, min(most_members, len(candidates)) + 1):
            for which in permutations(range(len(candidates)), size):
                self.cascades += [Members(which, combine) for combine in self.combines]

    @cached_property
    def choices(self) -> list[Choice]:
        """What is compared: every cascade under every ratio, cheapest first."""
        found = []
        for members in self.cascades:
            scores, table = cascade_scores(self.candidates, members), cascade_costs(self.tables, members)
            exits = scores.num_exits
            one_exit = np.array([ExitPolicy.only(k, exits).thresholds for k in range(exits)], dtype=np.float32)
            thresholds = np.concatenate([one_exit, geometric_thresholds(scores.confidence, RATIOS)])
            uses, which = np.unique([_used(row) for row in thresholds], axis=0, return_inverse=True)
            for i, used in enumerate(uses):
                rows = thresholds[which == i]
                outcomes = evaluate_thresholds(rows, scores, ImageCosts(_costs(table, used)))
                pairs = zip(rows, outcomes.mean_cost.tolist(), outcomes.accuracy.tolist(), strict=True)
                found += [Choice(members, at, cost, accuracy) for at, cost, accuracy in pairs]
        return sorted(found, key=lambda choice: choice.cost)

    @cached_property
    def frontier(self) -> list[Choice]:
        """The choices that no other beats: each is more accurate than all that cost no more, cheapest first."""
        best: list[Choice] = []
        for choice in self.choices:
            if not best or choice.accuracy > best[-1].accuracy:
                best.append(choice)
        return best

    def within(self, budget: float) -> Choice | None:
        """Return the best choice whose mean cost is within a budget; None if every candidate costs more."""
        affordable = [choice for choice in self.frontier if choice.cost <= budget]
        return affordable[-1] if affordable else None

    def alone(self, candidate: int) -> Choice:
        """Return a candidate without the others, at its last exit."""
        scores, table = self.candidates[candidate], self.tables[candidate]
        never = np.full(scores.num_exits - 1, np.inf, dtype=np.float32)
        return Choice(Members((candidate,)), never, float(table.stages[0, -1]), float(scores.correct[-1].mean()))

    def held_out(self, budgets: Sequence[float]) -> list[tuple[float, npt.NDArray[np.bool_]] | None]:
        """Return what choices come to on images that they were not made on.

        Each of `FOLDS` parts of the images judges the choices made on the others, thresholds and members alike.

        Returns:
            For each budget the mean cost, and (N,) whether the answer about an image is right; None where no choice is
            within the budget.
        """
        images = self.candidates[0].num_images
        dealt = deal([of for each in self.candidates for of in (each.confidence, each.correct)], FOLDS)
        results: list[Any] = [(np.zeros(images), np.zeros(images, dtype=np.bool_)) for _ in budgets]
        for fold in range(FOLDS):
            inside, outside = (
                CascadeSearch(
                    [each.subset(part) for each in self.candidates],
                    self.tables,
                    most_members=self.most_members,
                    combines=self.combines,
                )
                for part in (dealt != fold, dealt == fold)
            )
            for i, budget in enumerate(budgets):
                choice = inside.within(budget)
                if choice is None or results[i] is None:
                    results[i] = None
                    continue
                cost, right = outside._apply(choice)
                results[i][0][dealt == fold], results[i][1][dealt == fold] = cost, right
        return [None if result is None else (float(result[0].mean()), result[1]) for result in results]

    def _apply(self, choice: Choice) -> tuple[Floats, npt.NDArray[np.bool_]]:
        """Return (N,) costs and whether the answers are right, of a choice on these images."""
        scores = cascade_scores(self.candidates, choice.members)
        exits = first_exits(scores.confidence, choice.thresholds)
        costs = _costs(cascade_costs(self.tables, choice.members), _used(choice.thresholds))
        right = scores.correct_at(exits)
        assert right is not None, "the scores are labelled"
        return costs[exits], right


def _used(thresholds: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """Return (K,) which exits are cuts: those at which images can leave, and the last."""
    used = possible_exits(thresholds)
    used[-1] = True
    return used


def _costs(table: CostTable, used: npt.NDArray[np.bool_]) -> Floats:
    """Return (K,) the cumulative costs of exits where some are used."""
    return table.cumulative(np.flatnonzero(used).tolist())


def _stacked(parts: Sequence[ExitScores]) -> ExitScores:
    """Return the exits of several scores of the same images, one after the other."""
    names = ("confidence", "margin", "entropy", "prediction", "correct_top5", "correct")
    arrays: dict[str, Any] = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in names
        if all(part.has(name) for part in parts)
    }
    return ExitScores(**arrays, labels=parts[0].labels if parts[0].has("labels") else None)


def _check(candidates: Sequence[ExitScores], tables: Sequence[CostTable]) -> None:
    if not candidates or len(candidates) != len(tables):
        raise UserError(
            f"A cascade is chosen from candidates with their costs: there are {len(candidates)} scores and "
            f"{len(tables)} costs."
        )
    first = candidates[0]
    for scores, table in zip(candidates, tables, strict=True):
        if not scores.has("correct"):
            raise UserError("The choice of a cascade needs labels, and the scores of a candidate have none.")
        if scores.num_images != first.num_images or (
            scores.has("labels") and first.has("labels") and not np.array_equal(scores.labels, first.labels)
        ):
            raise UserError("The candidates were scored on different images: score all on the same, in one order.")
        if not same_temperatures(scores.temperatures, None):
            raise UserError("Candidates must be scored without temperatures, which belong to one network.")
        if scores.num_exits != table.num_exits:
            raise UserError(f"A candidate has {scores.num_exits} exits and costs of {table.num_exits}.")
        if table.unit != tables[0].unit:
            raise UserError(f"The costs of the candidates are in different units, {tables[0].unit} and {table.unit}.")
