"""Budgeted batch classification: the papers' curve, a sweep over geometric policies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ranet.calibration.policies.exit_policy import ExitPolicy
from ranet.calibration.policies.outcome import Costs, Outcomes, costs_of_images, evaluate_thresholds
from ranet.calibration.scores.exit_scores import ExitScores
from ranet.calibration.solvers.geometric import PAPER_RATIOS, geometric_thresholds
from ranet.errors import UserError

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class BudgetedCurve(Outcomes):
    """R geometric policies, solved on validation, with their outcomes on test.

    Attributes:
        ratios: (R,) ratios of the geometric series.
        thresholds: (R, K - 1) thresholds; infinite where no image leaves.
        validation_accuracy: (R,) top-1 fraction on validation.
        images: number of test images.
    """

    ratios: Floats
    thresholds: npt.NDArray[np.float32]
    validation_accuracy: Floats
    images: int

    def policy(self, index: int) -> ExitPolicy:
        """Return the policy of one row, ready to save."""
        metadata = {"policy": "geometric", "ratio": self.ratios[index]}
        return ExitPolicy(tuple(self.thresholds[index].tolist()), metadata=metadata)


def budgeted_curve(
    validation: ExitScores, test: ExitScores, cost_per_exit: Costs, ratios: npt.ArrayLike = PAPER_RATIOS
) -> BudgetedCurve:
    """Solve the geometric policy of each ratio on validation, and measure accuracy and mean cost on test.

    By default the 39 ratios 0.05, 0.10 .. 1.95 of the papers (Huang et al., ICLR 2018; Yang et al., CVPR 2020). All
    are solved at once: about 10 ms for 5 exits and 5,000 + 10,000 images.

    Raises:
        UserError: if validation, test and costs have different numbers of exits, or a ratio is not positive.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> scores = ExitScores.from_logits(rng.normal(size=(3, 100, 10)), rng.integers(10, size=100))
        >>> budgeted_curve(scores, scores, [1.0, 2.0, 3.0]).exit_shares.shape
        (39, 3)
    """
    if validation.num_exits != test.num_exits:
        raise UserError(
            f"The validation scores have {validation.num_exits} exits and the test scores {test.num_exits}: both must "
            "come from the same network."
        )
    costs = costs_of_images(cost_per_exit, test)
    ratio = np.asarray(ratios, dtype=np.float64)
    if ratio.ndim != 1 or not (np.isfinite(ratio).all() and (ratio > 0).all()):
        raise UserError(f"The ratios of a sweep must be positive numbers, not {ratio.tolist()}.")
    thresholds = geometric_thresholds(validation.confidence, ratio)
    return BudgetedCurve(
        **vars(evaluate_thresholds(thresholds, test, costs)),
        ratios=ratio,
        thresholds=thresholds,
        validation_accuracy=evaluate_thresholds(thresholds, validation, cost_per_exit).accuracy,
        images=test.num_images,
    )
