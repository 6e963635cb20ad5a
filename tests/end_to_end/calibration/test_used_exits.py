"""The sentence about the exits that policies use."""

from math import inf

import pytest

from ranet.calibration import Calibration, ExitPolicy
from ranet.calibration.solvers.cross_fitting import Verdict
from ranet.evaluation.policies.solved import used_exits_sentence


def using(*exits: int, verdict: Verdict | None = None, score: str = "confidence") -> Calibration:
    """A calibration for four exits that uses these."""
    return Calibration(
        ExitPolicy(tuple(0.5 if k in exits else inf for k in range(3)), score, metadata={"used_exits": exits}),
        verdict=verdict,
    )


WON = Verdict(0.0123, 0.004)


@pytest.mark.parametrize(
    ("policies", "sentence"),
    [
        ([using(0, 1, 2, 3)], "The policy uses all exits, because to leave any out did not pay by cross-fitting."),
        ([using(0, 1, 2, 3, score="patience")], "The policy uses all exits, because patience counts exits."),
        (
            [using(0, 1, 2, 3)] * 2,
            "Every policy uses all exits, because to leave any out did not pay by cross-fitting.",
        ),
        (
            [using(0, 2, 3, verdict=WON)],
            "The policy uses exits 1, 3 and 4 alone, which by cross-fitting is worth 1.23 points of top-1 (standard "
            "error 0.40) against using all exits at the same budget.",
        ),
        ([using(3)], "The policy uses exit 4 alone, because the budget pays for the whole network in one piece."),
        ([using(0)], "The policy uses exit 1 alone."),
        (
            [using(0, 1, 2, 3), using(1, 3, verdict=WON), using(2, 3, verdict=Verdict(0.002, 0.001)), using(3)],
            "3 of 4 policies leave exits out (an infinite threshold), which by cross-fitting is worth 0.20 to 1.23 "
            "points of top-1 against using all.",
        ),
        ([using(0, 1, 2, 3), using(3)], "1 of 2 policies leave exits out (an infinite threshold)."),
    ],
)
def test_the_sentence(policies: list[Calibration], sentence: str) -> None:
    assert used_exits_sentence(policies) == sentence
