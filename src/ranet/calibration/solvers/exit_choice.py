"""The choice of the exits that a policy uses, if each cut costs time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from math import inf
from typing import Any

import numpy as np
import numpy.typing as npt

from ranet.calibration.policies.exit_policy import ExitPolicy
from ranet.calibration.policies.promise import Calibration, Promises
from ranet.calibration.scores.checks import require_scores
from ranet.calibration.scores.exit_scores import ExitScores
from ranet.calibration.solvers.alternatives import best_within
from ranet.calibration.solvers.budget import Budgets, calibrate_each, check_budgets, score_of
from ranet.calibration.solvers.cross_fitting import Verdict
from ranet.calibration.solvers.exit_sets import Exits, ExitSetJudge
from ranet.cost.fused_stage_costs import FusedStageCosts
from ranet.errors import UserError

Floats = npt.NDArray[np.float64]

OF_EXITS = ("confidence", "margin", "entropy", "prediction", "correct_top5", "correct")


@dataclass(frozen=True, eq=False, kw_only=True)
class ExitCalibration(Calibration):
    """A policy that uses some of the exits, and its promise.

    Attributes:
        used_exits: indices of the exits that the policy uses; the others have an infinite threshold.
        cost_per_exit: (K,) cumulative cost of each exit if these exits are used.
        verdict: comparison of these exits with all exits on images that neither was solved on; None if they were not
            compared, because all exits are used or every image runs to the last.
    """

    used_exits: Exits
    cost_per_exit: Floats
    verdict: Verdict | None = None


def calibrate_exits(
    scores: ExitScores,
    costs: FusedStageCosts,
    budget: float,
    *,
    policy: str = "geometric",
    score: str | None = None,
    unit: str = "ms",
    metadata: Mapping[str, Any] | None = None,
    alternatives: bool = True,
) -> ExitCalibration:
    """Find which exits to use, and a policy on them whose mean cost on validation is within the budget.

    Every used exit costs a cut and a head, and costs more if more images pass. So the exits are chosen for each budget
    (`ExitSetJudge`), under the geometric rule on the family's score. Then the family is solved on these exits. Exits
    that this solution does not use, such as those with a quota of 0 images, are dropped, and the saved cost is spent.
    As in `calibrate`, one exit alone (as one fused stage) or a cheaper policy is chosen instead if labels show that it
    is at least as accurate on validation.

    "patience" counts exits in a row, so it uses all exits unless one alone is chosen. If the budget is at least the
    cost of the whole network as one fused stage, every image runs to the last exit.

    Args:
        scores: scores of validation images, which the network was not trained on. Without labels, the exits are chosen
            by how often the policy gives the answer of the last exit.
        costs: costs of all fused stages.
        budget: mean cost of an image, in the unit of the costs.
        policy: the family, see `calibrate`.
        score: score that the family compares, see `calibrate`.
        unit: unit of costs and budget.
        metadata: further entries for the policy file, such as the network's name.
        alternatives: see `calibrate`.

    Returns:
        The calibration for all K exits; its metadata hold "used_exits" and, as "cost_per_exit", the costs with these.

    Raises:
        UserError: if no policy meets the budget, the family or score is unknown, the costs have another number of
            exits, or the scores have neither labels nor predictions.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> scores = ExitScores.from_logits(rng.normal(size=(3, 500, 10)), rng.integers(10, size=500))
        >>> dear = FusedStageCosts([[1, 2, 3], [0, 9, 3], [0, 0, 9]])  # a cut behind the second exit
        >>> calibration = calibrate_exits(scores, dear, budget=2.5)
        >>> calibration.used_exits, round(calibration.predicted_cost, 2)
        ((0, 2), 2.5)
    """
    options: dict[str, Any] = {"policy": policy, "score": score, "unit": unit, "metadata": metadata}
    return calibrate_exits_each(scores, costs, [budget], **options, alternatives=alternatives)[0]


def calibrate_exits_each(
    scores: ExitScores,
    costs: FusedStageCosts,
    budgets: Budgets,
    *,
    policy: str = "geometric",
    score: str | None = None,
    unit: str = "ms",
    metadata: Mapping[str, Any] | None = None,
    alternatives: bool = True,
) -> list[ExitCalibration]:
    """Find exits and a policy for each of many budgets; see `calibrate_exits`. Shared work is done once.

    Raises:
        UserError: as for `calibrate_exits`, before any budget is solved.
    """
    require_scores(scores)
    if costs.num_exits != scores.num_exits:
        raise UserError(
            f"The costs have {costs.num_exits} exits and the scores {scores.num_exits}: both must be of the same "
            "network."
        )
    everything, chooses = tuple(range(scores.num_exits)), score_of(policy, score) != "patience"
    reachable = costs.alone if chooses else costs.cumulative(everything)
    check_budgets(budgets, reachable, unit)
    judge = ExitSetJudge(scores.score(score_of(policy, score)), _right(scores), costs) if chooses else None
    widener = cache(lambda exits: _Widener(scores, exits, costs.cumulative(exits), unit, metadata))

    def own(asked: Budgets) -> list[ExitCalibration]:
        chosen: list[tuple[Exits, Verdict | None]] = [(everything, None)] * len(asked)
        if judge is not None:
            chosen = [judge.choose(float(budget)) for budget in asked]
        found: dict[int, ExitCalibration] = {}
        todo: dict[Exits, list[int]] = {}
        for i, (exits, _) in enumerate(chosen):
            todo.setdefault(exits, []).append(i)
        while todo:
            exits, places = todo.popitem()
            widen = widener(exits)
            options: dict[str, Any] = {"policy": policy, "score": score, "unit": unit, "alternatives": False}
            part, costs_of_part = restricted(scores, exits), widen.costs[list(exits)]
            solved = calibrate_each(part, costs_of_part, [asked[i] for i in places], **options)
            for i, one in zip(places, solved, strict=True):
                pairs = zip(exits, one.policy.thresholds, strict=False)
                fewer = (*(k for k, threshold in pairs if threshold < inf), exits[-1])
                if chooses and fewer != exits:
                    todo.setdefault(fewer, []).append(i)
                else:
                    found[i] = widen(one, chosen[i][1])
        return [found[i] for i in range(len(found))]

    if not (alternatives and scores.has("correct")):
        return own(budgets)
    alone = [widener(tuple(sorted({k, everything[-1]}))).alone(policy) for k in everything]
    return best_within(budgets, own, alone, scores, reachable)


class _Widener:
    """A function that turns a calibration for some exits into one for all exits."""

    def __init__(
        self, scores: ExitScores, exits: Exits, costs: Floats, unit: str, metadata: Mapping[str, Any] | None
    ) -> None:
        self.exits = exits
        self.costs = costs
        self.promises_for = cache(lambda score: Promises(scores, costs, score, unit, metadata))

    def __call__(self, one: Calibration, verdict: Verdict | None) -> ExitCalibration:
        thresholds = np.full(len(self.costs) - 1, inf, dtype=np.float32)
        thresholds[list(self.exits[:-1])] = one.policy.thresholds
        looks = one.policy.score == "patience"
        used = [k for k in self.exits if looks or k == self.exits[-1] or thresholds[k] < inf]
        # After an exit at which all images leave, no exit is used.
        used = [k for k in used if not (thresholds[:k] == -inf).any()]
        because = {} if verdict is None else {"exits_gain": verdict.gain, "exits_gain_error": verdict.error}
        whole = self.promises_for(one.policy.score).promise(
            thresholds,
            family=one.policy.metadata["policy"],
            parameters={**one.parameters, "used_exits": used, **because},
            budget=one.policy.metadata["budget"],
            notices=one.notices,
        )
        return ExitCalibration(**vars(whole), used_exits=tuple(used), cost_per_exit=self.costs, verdict=verdict)

    def alone(self, family: str) -> ExitCalibration:
        """Return the calibration under which all images leave at the first of these exits."""
        exit = self.exits[0]
        parameters = {"exit_index": exit, "used_exits": [exit]}
        thresholds = ExitPolicy.only(exit, len(self.costs)).thresholds
        whole = self.promises_for("confidence").promise(thresholds, family=family, parameters=parameters)
        return ExitCalibration(**vars(whole), used_exits=(exit,), cost_per_exit=self.costs)


def restricted(scores: ExitScores, exits: Exits) -> ExitScores:
    """Return the scores of some exits, as if the network had no others; without logits.

    Example:
        >>> restricted(ExitScores([[0.5, 0.5], [0.6, 0.7], [0.8, 0.9]]), (0, 2)).confidence.tolist()
        [[0.5, 0.5], [0.800000011920929, 0.8999999761581421]]
    """
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
