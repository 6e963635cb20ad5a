"""The promise of a policy, read from its metadata; policies written by hand may lack parts of it."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite, nan

import numpy as np
import numpy.typing as npt

from ranet.calibration.policies.exit_policy import ExitPolicy
from ranet.calibration.policies.intervals import Interval, OutcomeIntervals
from ranet.calibration.policies.outcome import PolicyOutcome, checked_costs
from ranet.errors import UserError

NO_INTERVAL: Interval = (nan, nan)


@dataclass(frozen=True, eq=False)
class Promise:
    """The promise that `calibrate` wrote into a policy; NaN, 0 and "" for missing parts.

    Attributes:
        outcome: outcome on the calibration images.
        intervals: intervals of accuracy and mean cost on these images.
        images: number of calibration images.
        unit: unit of the costs.
        budget: budget of the policy.
    """

    outcome: PolicyOutcome
    intervals: OutcomeIntervals
    images: int
    unit: str
    budget: float

    @property
    def exit_counts(self) -> npt.NDArray[np.int64] | None:
        """(K,) how many calibration images left at each exit; None if unknown."""
        shares = self.outcome.exit_shares
        if not (self.images > 0 and np.isfinite(shares).all() and (shares >= 0).all()):
            return None
        counts = np.rint(shares * self.images)
        return counts.astype(np.int64) if counts.sum() == self.images else None


def read_promise(policy: ExitPolicy) -> Promise:
    """Return the promise in the metadata of a policy; entries of a wrong type count as missing."""
    predicted = policy.metadata.get("predicted")
    predicted = predicted if isinstance(predicted, dict) else {}
    shares = predicted.get("exit_shares")
    shares = shares if isinstance(shares, list) and len(shares) == policy.num_exits else [None] * policy.num_exits
    images, unit = predicted.get("images"), policy.metadata.get("unit")
    outcome = PolicyOutcome(
        accuracy=_number(predicted.get("accuracy")),
        mean_cost=_number(predicted.get("cost")),
        exit_shares=np.array([_number(share) for share in shares]),
        accuracy_per_exit=np.full(policy.num_exits, nan),
    )
    accuracy, cost = (_interval(predicted.get(f"{name}_interval")) for name in ("accuracy", "cost"))
    return Promise(
        outcome=outcome,
        intervals=OutcomeIntervals(accuracy, cost or NO_INTERVAL),
        images=images if type(images) is int and 0 < images < 10**9 else 0,
        unit=unit if isinstance(unit, str) else "",
        budget=_number(policy.metadata.get("budget")),
    )


def costs_of(policy: ExitPolicy, cost_per_exit: npt.ArrayLike | None = None) -> npt.NDArray[np.float64]:
    """Return (K,) the given costs, or else those in the policy's metadata.

    Raises:
        UserError: if there are no costs, or they are not valid costs of the policy's exits.
    """
    if cost_per_exit is None:
        cost_per_exit = policy.metadata.get("cost_per_exit")
        if cost_per_exit is None:
            raise UserError("The policy does not say what its exits cost: give the cost of each exit.")
    return checked_costs(cost_per_exit, policy.num_exits)


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else nan


def _interval(value: object) -> Interval | None:
    ends = [_number(end) for end in value] if isinstance(value, list) else []
    return (ends[0], ends[1]) if len(ends) == 2 and all(map(isfinite, ends)) else None
