"""A short summary of the scores of each exit at calibration, with which later images are compared."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from ranet.calibration.policies.exit_policy import ExitPolicy
from ranet.errors import UserError

BINS = 20


def summarise_scores(compared: npt.NDArray[np.float32]) -> list[dict[str, list[Any]]]:
    """Return for each exit the bins between the vigintiles of its scores (K, N), and the number of scores in each bin.

    The edges are the scores of rank floor(i N / 20), i = 1..19, counted from 0 in ascending order. Equal edges are
    merged: where many scores are equal (confidences of exactly 1) there are fewer bins. Bin b holds the scores in
    [edge b, edge b + 1); the first bin is open below and the last above. If the smallest score is an edge, the first
    bin is empty; it then counts later images that are less sure than all calibration images.

    Returns:
        K JSON objects: "edges", at most 19, ascending; "counts", one more than edges, with sum N.

    Example:
        >>> summarise_scores(np.float32([[0.5, 1.0, 1.0, 0.25]]))
        [{'edges': [0.25, 0.5, 1.0], 'counts': [0, 1, 1, 2]}]
    """
    images = compared.shape[1]
    ranks = [i * images // BINS for i in range(1, BINS)]
    summaries = []
    for row in np.sort(compared, axis=1):
        edges = np.unique(row[ranks]).astype(np.float64)
        summaries.append({"edges": edges.tolist(), "counts": bin_counts(row, edges).tolist()})
    return summaries


def bin_counts(compared: npt.NDArray[np.float32], edges: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Return (B,) how many scores (N,) of one exit lie in each bin between ascending edges, see `summarise_scores`."""
    inner = np.asarray(edges, dtype=np.float64)
    bins = np.searchsorted(inner, compared.astype(np.float64), side="right")
    return np.bincount(bins, minlength=len(inner) + 1)


def stored_distribution(policy: ExitPolicy) -> list[dict[str, list[Any]]]:
    """Return the distribution of the scores that `calibrate` wrote into the policy; a UserError if there is none."""
    stored = policy.metadata.get("score_distribution")
    if stored is None:
        raise UserError(
            "The policy does not store the distribution of its calibration scores, so drift cannot be measured: "
            "make the policy with ranet calibrate."
        )
    if not (isinstance(stored, list) and len(stored) == policy.num_exits and all(map(_is_summary, stored))):
        raise UserError(
            "The score_distribution of the policy must be ascending edges, and counts, for each of its "
            f"{policy.num_exits} exits: make the policy again with ranet calibrate."
        )
    return stored


def _is_summary(value: object) -> bool:
    if not isinstance(value, dict):
        return False
    edges, counts = value.get("edges"), value.get("counts")
    if not isinstance(edges, list) or not isinstance(counts, list) or len(counts) != len(edges) + 1:
        return False
    finite = all(type(edge) in (int, float) and math.isfinite(edge) for edge in edges)
    whole = all(type(count) is int and 0 <= count < 2**53 for count in counts)
    return finite and whole and sum(counts) > 0 and all(low < high for low, high in pairwise(edges))
