"""Anytime prediction with a deadline: the deepest exit that answers in time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from decimal import ROUND_CEILING, Context
from math import isfinite
from typing import Any

import numpy as np
import numpy.typing as npt

from ranet.calibration.policies.exit_policy import ExitPolicy
from ranet.calibration.scores.exit_scores import ExitScores
from ranet.calibration.solvers.calibration import Calibration, Promises
from ranet.cost.table import ImageCosts, checked_costs
from ranet.errors import UserError


def exit_for_deadline(
    latency_per_exit: npt.ArrayLike,
    deadline: float,
    scores: ExitScores | None = None,
    *,
    metadata: Mapping[str, Any] | None = None,
) -> Calibration:
    """Choose the deepest exit whose latency is at most the deadline: the policy under which all images leave there.

    This is anytime prediction (Huang et al., ICLR 2018) with a time limit known in advance, which each image must meet,
    not the mean.

    Args:
        latency_per_exit: (K,) milliseconds until each exit has answered if no image leaves before, such as
            ``batch_ms_alone_p95`` of a `ranet.LatencyProfile`.
        deadline: milliseconds.
        scores: scores of images that the network was not trained on, to predict the accuracy of the exit.
        metadata: further entries for the policy file, such as the network's name.

    Raises:
        UserError: if not even the first exit meets the deadline (the message gives the smallest possible one), or the
            latencies are wrong (`ranet.calibration.checked_costs`).

    Example:
        >>> found = exit_for_deadline([1.5, 4.0, 9.0], deadline=5.0)
        >>> found.parameters["exit_index"], found.policy.thresholds
        (1, (inf, -inf))
    """
    latencies = checked_costs(latency_per_exit, np.size(latency_per_exit) if scores is None else scores.num_exits)
    if not latencies.size:
        raise UserError("There are no latencies: give one latency in milliseconds for each exit.")
    if not isfinite(deadline):
        raise UserError(f"The deadline must be a number of milliseconds, not {deadline}.")
    in_time = int(np.searchsorted(latencies, deadline, side="right"))  # how many exits are
    if not in_time:
        # Four digits, rounded up so that it can be met.
        least = float(Context(prec=4, rounding=ROUND_CEILING).create_decimal(float(latencies[0])))
        raise UserError(
            f"No exit answers within {deadline} ms; the smallest deadline that can be met is {least} ms, the latency "
            "of the first exit."
        )
    exit = in_time - 1
    policy = ExitPolicy.only(exit, len(latencies))
    found = {"deadline": float(deadline), "exit_index": exit}
    if scores is None:
        content = {"policy": "deadline", **found, "unit": "ms", "budget": None, "cost_per_exit": latencies}
        return Calibration(replace(policy, metadata={**content, **(metadata or {})}), found)
    promises = Promises(scores, ImageCosts(latencies), unit="ms", metadata=metadata)
    return promises.promise(policy.thresholds, family="deadline", parameters=found)
