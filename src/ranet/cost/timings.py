"""The summary of runs that were timed one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MILLISECONDS = 1e3  # in a second


@dataclass(frozen=True)
class Timings:
    """How long the same work took, run by run, in milliseconds for the whole batch.

    Attributes:
        median: of the runs.
        iqr: the interquartile range: how much the runs spread.
        p95: the 95th percentile; it means little where there are fewer than about 100 runs.
        runs: how many were timed.
    """

    median: float
    iqr: float
    p95: float
    runs: int

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Timings:
        """The summary of runs that were timed in seconds, at least one.

        Example:
            >>> Timings.of([0.001, 0.002, 0.003, 0.004, 0.005])
            Timings(median=3.0, iqr=2.0, p95=4.8, runs=5)
        """
        times = np.asarray(seconds) * MILLISECONDS
        low, median, high, p95 = np.quantile(times, [0.25, 0.5, 0.75, 0.95]).tolist()
        return cls(median, high - low, p95, len(times))
