"""The choice of the exits that a policy uses, if each cut costs time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from itertools import combinations
from math import inf, log
from typing import Any

import numpy as np
import numpy.typing as npt

from ranet.calibration.scores.exit_scores import ExitScores
from ranet.calibration.solvers.cross_fitting import Verdict, deal, what_images_bring
from ranet.calibration.solvers.families import Family, Solution
from ranet.calibration.solvers.geometric import SMALLEST_RATIO, descending, quota_thresholds
from ranet.calibration.solvers.optimal import mean_price
from ranet.cost.table import CostTable, ImageCosts
from ranet.errors import UserError

Floats = npt.NDArray[np.float64]
Exits = tuple[int, ...]

FOLDS = 2
MOST_ENUMERATED = 8  # exits: they have 128 sets
HALVINGS = 50
OF_EXITS = ("confidence", "margin", "entropy", "prediction", "correct_top5", "correct", "executed")


class ExitChoice:
    """Chooses for each budget the exits to use, and solves a family of policies on them.

    Every used exit costs a cut and a head, and costs more if more images pass. So the exits are chosen for each budget
    (`ExitSetJudge`), under the geometric rule on the family's score. Then the family is solved on these exits. Exits
    that this solution does not use, such as those with a quota of 0 images, are dropped, and the saved cost is spent.

    All exits are used without a table, and by "patience", which counts exits in a row. Without labels, the exits are
    chosen by how often the policy gives the answer of the last exit. ``costs_with`` gives what images cost where some
    exits are used.

    Raises:
        UserError: if the exits are to be chosen, and the scores have neither labels nor predictions.
    """

    def __init__(
        self, scores: ExitScores, table: CostTable | None, costs_with: Callable[[Exits], ImageCosts], family: Family
    ) -> None:
        self.everything = tuple(range(scores.num_exits))
        self.table = table
        self.judge = None
        if table is not None and family.score != "patience":
            added = costs_with(self.everything).added
            self.judge = ExitSetJudge(scores.score(family.score), _right(scores), table, added)
        self.solver = cache(lambda exits: family.solver(restricted(scores, exits), costs_with(exits).of_exits(exits)))

    def solve(self, budget: float) -> tuple[Exits, Solution, Verdict | None]:
        """Return the exits to use within a budget, the thresholds of all K exits, and the verdict on the exits."""
        exits, verdict = (self.everything, None) if self.judge is None else self.judge.choose(budget)
        while True:
            found = self.solver(exits)(budget)
            pairs = zip(exits, found.thresholds, strict=False)
            fewer = (*(k for k, threshold in pairs if threshold < inf), exits[-1])
            if fewer == exits or self.judge is None:
                break
            exits = fewer
        thresholds = np.full(len(self.everything) - 1, inf, dtype=np.float32)
        thresholds[list(exits[:-1])] = found.thresholds
        parameters = dict(found.parameters)
        if self.table is not None:
            # After an exit at which all images leave, no exit is used.
            parameters["used_exits"] = [k for k in exits if not (thresholds[:k] == -inf).any()]
        if verdict is not None:
            parameters |= {"exits_gain": verdict.gain, "exits_gain_error": verdict.error}
        return exits, Solution(found.score, thresholds, parameters), verdict


def restricted(scores: ExitScores, exits: Exits) -> ExitScores:
    """Return the scores of some exits, as if the network had no others; without logits."""
    at = list(exits)
    of_exits: Any = {name: getattr(scores, name)[at] for name in OF_EXITS if scores.has(name)}
    temperatures = None if scores.temperatures is None else scores.temperatures[at]
    return ExitScores(**of_exits, labels=scores.labels if scores.has("labels") else None, temperatures=temperatures)


def _right(scores: ExitScores) -> npt.NDArray[np.bool_]:
    """Return (K, N) whether the answer is right, or without labels, whether it is that of the last exit."""
    if scores.has("correct"):
        return scores.correct
    if not scores.has("prediction"):
        raise UserError(
            "The choice of exits needs labels or predictions, and these scores have neither: add one of them."
        )
    agrees: npt.NDArray[np.bool_] = scores.prediction == scores.prediction[-1]
    return agrees


class ExitSetJudge:
    """A comparison of sets of exits under the geometric rule: each half of the images judges thresholds of the other.

    The worth of a set is its accuracy minus the price of its cost, on images that its thresholds were not solved on
    (see `cross_fitting`), at the same budget. Many sets are nearly equal, so the best on these images is best partly by
    chance. Hence the value of a set is its gain over all exits minus the standard error of the gain, paired by image
    (after the one-standard-error rule of Breiman, Friedman, Olshen and Stone, "Classification and Regression Trees",
    1984, section 3.4).

    Args:
        scores: (K, N) validation scores, higher is surer.
        right: (K, N) whether the answer is right.
        costs: costs of all fused stages.
        added: (K, N) what optional parts add for each image; None where nothing adapts inside.
    """

    def __init__(
        self,
        scores: npt.NDArray[np.float32],
        right: npt.NDArray[np.bool_],
        costs: CostTable,
        added: Floats | None = None,
    ) -> None:
        self.scores = scores
        self.right = right
        self.costs = costs
        self.added = added
        self.num_exits, self.num_images = scores.shape
        # What is added on average; images differ in it only where sets are judged.
        self.mean_added = np.zeros(self.num_exits) if added is None else added.mean(axis=1)
        self.price = mean_price(right, costs.alone + self.mean_added)
        self.folds = []
        dealt = deal([scores, right], FOLDS)
        for fold in range(FOLDS if self.num_images >= FOLDS else 0):
            inside = scores[:, dealt != fold]
            self.folds.append((inside, descending(inside), dealt == fold))

    def choose(self, budget: float) -> tuple[Exits, Verdict | None]:
        """Return the exits to use within a budget of at least the first exit's cost, and their verdict against all.

        It is None if all exits are used, or if the budget pays for the whole network as one fused stage.
        """
        everything = tuple(range(self.num_exits))
        if budget >= self.costs.cheapest[0, -1] + self.mean_added[-1]:
            return everything[-1:], None
        if not self.folds:
            return everything, None
        judged = {everything: Verdict(0.0, 0.0)}
        if self.num_exits <= MOST_ENUMERATED:
            judged |= self.judge(all_sets(self.num_exits)[1:], budget)
        else:
            judged |= self._eliminate(budget)
        best = max(judged, key=lambda exits: judged[exits].gain - judged[exits].error)
        return best, judged[best] if best != everything else None

    def judge(self, sets: Sequence[Exits], budget: float) -> dict[Exits, Verdict]:
        """Return the verdict, against all exits, of each set whose first exit is within the budget."""
        compared = [tuple(range(self.num_exits))]
        compared += [exits for exits in sets if self._means(exits)[exits[0]] <= budget]
        costs = np.array([self._means(exits) for exits in compared])
        used = np.array([np.isin(np.arange(self.num_exits), exits) for exits in compared])
        worth = np.empty((len(compared), self.num_images))
        for inside, order, held_out in self.folds:
            quotas = quotas_within(budget, used, costs, inside.shape[1])
            scores, right = self.scores[:, held_out], self.right[:, held_out]
            for i, thresholds in enumerate(quota_thresholds(inside, quotas, order)):
                of_images = ImageCosts(self.costs.cumulative(compared[i]), self.added).part(held_out)
                worth[i, held_out] = what_images_bring(thresholds, scores, right, of_images, self.price)
        return {exits: Verdict.of(of - worth[0]) for exits, of in zip(compared[1:], worth[1:], strict=True)}

    def _means(self, exits: Exits) -> Floats:
        """Return (K,) the mean cost if all images leave at an exit, where these exits are used."""
        return self.costs.cumulative(exits) + self.mean_added

    def _eliminate(self, budget: float) -> dict[Exits, Verdict]:
        """Return verdicts of backward elimination: drop the least useful exit again and again, down to the last."""
        judged: dict[Exits, Verdict] = {}
        left = tuple(range(self.num_exits))
        while len(left) > 1:
            fewer = self.judge([tuple(k for k in left if k != dropped) for dropped in left[:-1]], budget)
            if not fewer:
                break
            judged |= fewer
            left = max(fewer, key=lambda exits: fewer[exits].gain)
        return judged


def all_sets(num_exits: int) -> list[Exits]:
    """Return all sets of exits that include the last exit, the largest set first."""
    before, last = range(num_exits - 1), num_exits - 1
    return [(*exits, last) for size in reversed(range(num_exits)) for exits in combinations(before, size)]


def quotas_within(budget: float, used: npt.NDArray[np.bool_], costs: Floats, images: int) -> npt.NDArray[np.int64]:
    """Return (M, K) the quotas of the geometric rule on each of M sets of exits, at the ratio that spends the budget.

    As in `geometric_quotas`, but k and j count the used exits, and the last exit takes the images that rounding leaves
    over. The ratio is found by bisection for all sets at once. The cost is then within a few images of the budget, near
    enough to compare sets.

    Args:
        budget: at least the cost of each set's first exit.
        used: (M, K) whether an exit is in the set; the last always is.
        costs: (M, K) cumulative cost of each exit under each set.
        images: n, the number of images.

    Example:
        >>> quotas_within(2.0, np.array([[True, True, True], [True, False, True]]), np.array([[1.0, 2.0, 3.0]] * 2), 99)
        array([[33, 33, 33],
               [49,  0, 50]])
    """
    place = used.cumsum(axis=1) - 1

    def shares(log_ratio: Floats) -> Floats:
        exponents = np.where(used, place * log_ratio[:, None], -np.inf)
        powers = np.exp(exponents - exponents.max(axis=1, keepdims=True))
        normalised: Floats = powers / powers.sum(axis=1, keepdims=True)
        return normalised

    low, high = np.full(len(used), log(SMALLEST_RATIO)), np.full(len(used), log(2 * images))
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        within = (shares(middle) * costs).sum(axis=1) <= budget
        low, high = np.where(within, middle, low), np.where(within, high, middle)
    quotas: npt.NDArray[np.int64] = np.floor(images * shares(low)).astype(np.int64)
    quotas[:, -1] += images - quotas.sum(axis=1)
    return quotas
