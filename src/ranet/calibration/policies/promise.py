"""The promise of a policy: what its calibration predicts and guarantees, as typed values of its metadata."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite, nan
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ranet.cost.table import ImageCosts, checked_costs, image_costs
from ranet.errors import UserError

Floats = npt.NDArray[np.float64]
Interval = tuple[float, float]


class GivenGuarantee(NamedTuple):
    """A guarantee on the risk of a policy, and the risk on the calibration images; see `ranet.calibrate_risk`."""

    risk: str
    eps: float
    delta: float | None
    empirical_risk: float


@dataclass(frozen=True, eq=False)
class Promise:
    """What calibration wrote into a policy; NaN, 0, None and "" for what a policy made by hand lacks.

    Costs and accuracies are means on the calibration images, and intervals are those of the population (95 %).
    """

    family: str  # of policies, or the goal, by which it was solved
    unit: str  # of all costs
    budget: float
    cost_per_exit: Floats | None  # (K,) cumulative, with the exits that the policy uses
    part_costs: Floats  # (P,) of each optional part of the network
    images: int  # number of calibration images
    cost: float
    cost_interval: Interval
    accuracy: float  # top-1, a fraction
    accuracy_interval: Interval | None
    exit_shares: Floats  # (K,) fraction of the images that left at each exit
    cost_counts: npt.NDArray[np.int64] | None  # images by cost (`cost_levels`); None where nothing adapts inside
    guarantee: GivenGuarantee | None
    exit_index: int | None  # the exit at which all images leave, from 0
    used_exits: tuple[int, ...] | None  # where they were chosen
    fingerprint: str | None  # of the network

    @classmethod
    def of(cls, metadata: Mapping[str, Any], num_exits: int) -> Promise:
        """Read the promise in the metadata of a policy for this number of exits; wrong types count as missing."""
        predicted = _part(metadata, "predicted")
        shares = predicted.get("exit_shares")
        shares = shares if isinstance(shares, list) and len(shares) == num_exits else [None] * num_exits
        given, counts = _part(metadata, "guarantee"), predicted.get("cost_counts")
        images, costs, used = predicted.get("images"), metadata.get("cost_per_exit"), metadata.get("used_exits")
        accuracy, cost = (_interval(predicted.get(f"{name}_interval")) for name in ("accuracy", "cost"))
        exit_index, fingerprint = metadata.get("exit_index"), _part(metadata, "network").get("fingerprint")
        return cls(
            family=str(metadata.get("policy") or ""),
            unit=str(metadata.get("unit") or ""),
            budget=_number(metadata.get("budget")),
            cost_per_exit=None if costs is None else np.asarray(costs, dtype=np.float64),
            part_costs=np.asarray(metadata.get("part_costs", []), dtype=np.float64),
            images=images if type(images) is int and 0 < images < 10**9 else 0,
            cost=_number(predicted.get("cost")),
            cost_interval=cost or (nan, nan),
            accuracy=_number(predicted.get("accuracy")),
            accuracy_interval=accuracy,
            exit_shares=np.array([_number(share) for share in shares]),
            cost_counts=None if counts is None else np.asarray(counts, dtype=np.int64),
            guarantee=GivenGuarantee(*(given.get(name) for name in GivenGuarantee._fields)) if given else None,  # type: ignore[arg-type]
            exit_index=exit_index if type(exit_index) is int else None,
            used_exits=tuple(used) if isinstance(used, list) else None,
            fingerprint=fingerprint if isinstance(fingerprint, str) else None,
        )

    @property
    def exit_counts(self) -> npt.NDArray[np.int64] | None:
        """(K,) how many calibration images left at each exit; None if unknown."""
        shares = self.exit_shares
        if not (self.images > 0 and np.isfinite(shares).all() and (shares >= 0).all()):
            return None
        counts = np.rint(shares * self.images)
        return counts.astype(np.int64) if counts.sum() == self.images else None

    def costs_of_images(self, executed: npt.NDArray[np.bool_] | None) -> ImageCosts:
        """Return what images that executed (K, N, P) parts (`ranet.ExitScores`) cost, by the costs in the policy.

        Raises:
            UserError: if the policy does not say what its exits cost, or it is not known what was executed.
        """
        if self.cost_per_exit is None:
            raise UserError("The policy does not say what its exits cost: give the cost of each exit.")
        return image_costs(checked_costs(self.cost_per_exit, len(self.exit_shares)), self.part_costs, executed)


def _part(metadata: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = metadata.get(name)
    return value if isinstance(value, dict) else {}


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else nan


def _interval(value: object) -> Interval | None:
    ends = [_number(end) for end in value] if isinstance(value, list) else []
    return (ends[0], ends[1]) if len(ends) == 2 and all(map(isfinite, ends)) else None
