"""A sentence about the exits that policies use, and the gain of leaving out the others."""

from __future__ import annotations

from collections.abc import Sequence

from ranet.calibration.solvers.calibration import Calibration


def used_exits_sentence(policies: Sequence[Calibration]) -> str:
    """Return the sentence about one policy, or about several of the same network and family.

    Args:
        policies: at least one. The gain is measured by cross-fitting: on images that thresholds were not solved on, at
            the same budget, with differences of cost priced in.
    """
    fewer = [one for one in policies if len(one.used_exits) < one.policy.num_exits]
    if not fewer:
        of = "Every policy uses all" if len(policies) > 1 else "The policy uses all"
        patient = policies[0].policy.score == "patience"
        because = (
            "because patience counts exits" if patient else "because to leave any out did not pay by cross-fitting"
        )
        return f"{of} exits, {because}."
    if len(policies) == 1:
        return f"The policy uses {_exits(fewer[0])} alone{_worth(fewer[0])}."
    gains = [100 * one.verdict.gain for one in fewer if one.verdict is not None]
    span = f"{min(gains):.2f} to {max(gains):.2f}" if gains else ""
    worth = f", which by cross-fitting is worth {span} points of top-1 against using all" if gains else ""
    return f"{len(fewer)} of {len(policies)} policies leave exits out (an infinite threshold){worth}."


def _exits(of: Calibration) -> str:
    """Return the used exits, counted from 1.

    Example:
        >>> from types import SimpleNamespace
        >>> _exits(SimpleNamespace(used_exits=(0, 2, 4))), _exits(SimpleNamespace(used_exits=(3,)))
        ('exits 1, 3 and 5', 'exit 4')
    """
    *others, last = (str(exit_index + 1) for exit_index in of.used_exits)
    return f"exits {', '.join(others)} and {last}" if others else f"exit {last}"


def _worth(of: Calibration) -> str:
    if of.verdict is not None:
        gain, error = 100 * of.verdict.gain, 100 * of.verdict.error
        return (
            f", which by cross-fitting is worth {gain:.2f} points of top-1 (standard error {error:.2f}) against using "
            "all exits at the same budget"
        )
    whole = of.used_exits == (of.policy.num_exits - 1,)
    return ", because the budget pays for the whole network in one piece" if whole else ""
