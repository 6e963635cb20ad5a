"""Names of the options of a calibration, checked without importing the solvers."""

from __future__ import annotations

from ranet.calibration.scores.checks import SCORES
from ranet.errors import UserError, unknown_name

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
    """Return the score that a family compares: the given one, or the family's default for None.

    Raises:
        UserError: if the family or the score is unknown, or the family cannot compare this score.
    """
    if policy not in POLICIES:
        raise unknown_name("policy", policy, POLICIES)
    if score is None or score == POLICIES[policy]:
        return POLICIES[policy]
    if score not in SCORES:
        raise unknown_name("score", score, SCORES)
    if policy not in ("geometric", "one_threshold", "optimal") or score not in CANDIDATES:
        raise UserError(
            f"policy={policy} cannot compare score={score}: use confidence, margin or entropy with geometric, "
            "one_threshold or optimal, or use policy=patience."
        )
    return score
