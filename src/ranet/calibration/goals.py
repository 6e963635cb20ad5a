"""The goals of a calibration, and the names of their options, without the solvers (which need PyTorch)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ranet.calibration.scores.checks import SCORES
from ranet.errors import UserError, require_known

POLICIES = {
    "geometric": "confidence",
    "margin": "margin",
    "entropy": "entropy",
    "one_threshold": "confidence",
    "patience": "patience",
    "optimal": "confidence",
}
"""The families of policies, and the score that each compares by default."""
CANDIDATES = ("confidence", "margin", "entropy")
RISKS = ("accuracy", "disagreement")
BOUNDS = ("binomial", "hoeffding_bentkus")


def score_of(policy: str, score: str | None) -> str:
    """Return the score that a family compares, by default its own; a UserError if the family cannot compare it."""
    require_known("policy", policy, POLICIES)
    if score is None or score == POLICIES[policy]:
        return POLICIES[policy]
    require_known("score", score, SCORES)
    if policy not in ("geometric", "one_threshold", "optimal") or score not in CANDIDATES:
        raise UserError(
            f"policy={policy} cannot compare score={score}: use confidence, margin or entropy with geometric, "
            "one_threshold or optimal, or use policy=patience."
        )
    return score


SWEEP = 20  # budgets from the first exit's cost to the last's


@dataclass(frozen=True)
class BudgetAmount:
    """A budget as it is asked for: a cost, or a share of the last exit's cost, above 0 and at most 1."""

    value: float
    is_share: bool = False

    def cost(self, alone: npt.NDArray[np.float64]) -> float:
        """Return the budget in the unit of the costs (K,) of each exit as the only one that is used.

        Raises:
            UserError: if it is a cost below that of the first exit, and was perhaps meant as a share.
        """
        if self.is_share:
            return self.value * float(alone[-1])
        if 0 < self.value < alone[0] and self.value <= 100:
            share = f"{self.value * 100 if self.value <= 1 else self.value:g}%"
            raise UserError(
                f"budget={self.value:g} is less than the {alone[0]:,.4g} of the first exit; for a share of the last "
                f"exit's cost say budget={share}."
            )
        return self.value


@dataclass(frozen=True)
class Budget:
    """The goal of a mean cost; see `ranet.calibrate`.

    Attributes:
        amounts: the budgets; None for a sweep from the first exit's cost to the last's.
        family, score, alternatives: ``policy``, ``score`` and ``alternatives`` of `ranet.calibrate`.
    """

    amounts: tuple[BudgetAmount, ...] | None
    family: str = "geometric"
    score: str | None = None
    alternatives: bool = True

    def values(self, alone: npt.NDArray[np.float64]) -> list[float]:
        """Return the budgets in the unit of the costs (K,) of each exit as the only one that is used."""
        if self.amounts is None:
            # With one exit there is one budget, not SWEEP times the same.
            return np.unique(np.linspace(alone[0], alone[-1], SWEEP)).tolist()
        return [amount.cost(alone) for amount in self.amounts]


@dataclass(frozen=True)
class Risk:
    """The goal of a bounded risk; see `ranet.calibrate_risk`, whose ``risk`` is ``of``."""

    eps: float
    delta: float | None = 0.1
    of: str = "accuracy"
    bound: str = "binomial"
    score: str | None = None


@dataclass(frozen=True)
class Deadline:
    """The goal of answering every batch in time; see `ranet.exit_for_deadline`."""

    milliseconds: float


Goal = Budget | Risk | Deadline
