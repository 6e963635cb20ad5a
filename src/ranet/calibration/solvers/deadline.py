"""Anytime prediction with a deadline: the deepest exit that answers in time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, Context
from math import isfinite, nan
from typing import Any

import numpy as np
import numpy.typing as npt

from ranet.calibration.policies.exit_policy import ExitPolicy
from ranet.calibration.policies.intervals import Interval
from ranet.calibration.policies.outcome import checked_costs
from ranet.calibration.policies.promise import Calibration, promise
from ranet.calibration.scores.exit_scores import ExitScores
from ranet.errors import UserError

FAMILY = "deadline"


@dataclass(frozen=True)
class DeadlineChoice:
    """The exit at which all images leave, so that the answer comes before the deadline.

    Attributes:
        exit: index of the exit, 0..K-1.
        latency: milliseconds until this exit has answered.
        deadline: the given deadline in milliseconds, at least the latency.
        accuracy: top-1 accuracy of this exit on the scores, a fraction; NaN without scores or labels.
        interval: interval of the accuracy (95 %); NaN without scores or labels.
        policy: policy under which all images leave at this exit, ready to save; its metadata repeat the other values.
        calibration: the policy with its promise; None without scores.
    """

    exit: int
    latency: float
    deadline: float
    accuracy: float
    interval: Interval
    policy: ExitPolicy
    calibration: Calibration | None = None


def exit_for_deadline(
    latency_per_exit: npt.ArrayLike,
    deadline: float,
    scores: ExitScores | None = None,
    *,
    metadata: Mapping[str, Any] | None = None,
) -> DeadlineChoice:
    """Choose the deepest exit whose latency is at most the deadline.

    This is anytime prediction (Huang et al., ICLR 2018) with a time limit that is known in advance. All images leave at
    the same exit, because a deadline holds for each image, not for the mean.

    Args:
        latency_per_exit: (K,) milliseconds until each exit has answered if no image leaves before, such as
            ``batch_ms_alone_p95`` of a `ranet.LatencyProfile`.
        deadline: milliseconds.
        scores: scores of images that the network was not trained on, to predict the accuracy of the exit.
        metadata: further entries for the policy file, such as the network's name.

    Raises:
        UserError: if not even the first exit meets the deadline (the message gives the smallest possible one), or the
            latencies are not one finite number of at least 0 for each exit, each larger than the one before.

    Example:
        >>> choice = exit_for_deadline([1.5, 4.0, 9.0], deadline=5.0)
        >>> choice.exit, choice.latency, choice.policy.thresholds
        (1, 4.0, (inf, -inf))
    """
    latencies = checked_costs(latency_per_exit, np.size(latency_per_exit) if scores is None else scores.num_exits)
    if not latencies.size:
        raise UserError("There are no latencies: give one latency in milliseconds for each exit.")
    if not isfinite(deadline):
        raise UserError(f"The deadline must be a number of milliseconds, not {deadline}.")
    in_time = int(np.searchsorted(latencies, deadline, side="right"))  # how many exits are
    if not in_time:
        raise UserError(
            f"No exit answers within {deadline} ms; the smallest deadline that can be met is {_above(latencies[0])} "
            "ms, the latency of the first exit."
        )
    chosen = in_time - 1
    policy = ExitPolicy.only(chosen, len(latencies))
    found = {"deadline": float(deadline), "exit_index": chosen}
    answered_after = float(latencies[chosen])
    if scores is None:
        content = {"policy": FAMILY, **found, "unit": "ms", "budget": None, "cost_per_exit": latencies}
        policy = replace(policy, metadata={**content, **(metadata or {})})
        return DeadlineChoice(chosen, answered_after, float(deadline), nan, (nan, nan), policy)
    promised = promise(
        policy.thresholds, scores, latencies, family=FAMILY, parameters=found, unit="ms", metadata=metadata
    )
    return DeadlineChoice(
        chosen,
        answered_after,
        float(deadline),
        promised.predicted_accuracy,
        promised.interval,
        promised.policy,
        promised,
    )


def _above(latency: float) -> float:
    """Return the latency rounded up to four digits, so that it can be met as a deadline."""
    return float(Context(prec=4, rounding=ROUND_CEILING).create_decimal(float(latency)))
