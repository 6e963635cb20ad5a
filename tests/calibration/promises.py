"""Promises of policies that are given, for tests of what is made of them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ranet.calibration import Calibration, ExitScores
from ranet.calibration.solvers.calibration import Promises
from ranet.cost.table import ImageCosts


def promise(
    thresholds: npt.ArrayLike,
    scores: ExitScores,
    costs: npt.ArrayLike,
    *,
    score: str = "confidence",
    unit: str = "",
    metadata: Mapping[str, Any] | None = None,
    **options: Any,
) -> Calibration:
    """The policy of these thresholds with its promise; options are those of `Promises.promise`."""
    promises = Promises(scores, ImageCosts(np.asarray(costs, dtype=np.float64)), score, unit, metadata)
    return promises.promise(tuple(np.asarray(thresholds).tolist()), **options)
