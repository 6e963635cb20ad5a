"""The words that a calibration takes, checked without importing what solves it."""

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
"""The families of policies, and the score that each compares unless another is asked for."""
CANDIDATES = ("confidence", "margin", "entropy")
RISKS = ("accuracy", "disagreement")
BOUNDS = ("binomial", "hoeffding_bentkus")


def score_of(policy: str, score: str | None) -> str:
    """What the family compares if this score is asked for, or none is.

    Raises:
        UserError: for an unknown family or score, or one that does not go with the other.
    """
    if policy not in POLICIES:
        raise unknown_name("policy", policy, POLICIES)
    if score is None or score == POLICIES[policy]:
        return POLICIES[policy]
    if score not in SCORES:
        raise unknown_name("score", score, SCORES)
    if policy not in ("geometric", "one_threshold", "optimal") or score not in CANDIDATES:
        raise UserError(
            f"policy={policy} does not compare the {score}; choose confidence, margin or entropy with geometric, "
            "one_threshold or optimal, or policy=patience."
        )
    return score
