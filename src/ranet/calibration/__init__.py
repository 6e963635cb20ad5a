"""Exit scores, exit policies, and the solvers that make a policy meet a budget, a risk or a deadline."""

from typing import TYPE_CHECKING

from ranet.support.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from ranet.calibration.goals import POLICIES
    from ranet.calibration.guarantees.risk import calibrate_risk
    from ranet.calibration.policies.exit_policy import ExitPolicy, load_policy
    from ranet.calibration.policies.outcome import PolicyOutcome, evaluate_policy, evaluate_thresholds
    from ranet.calibration.scores.cache import ScoreCache
    from ranet.calibration.scores.exit_scores import ExitScores
    from ranet.calibration.scores.temperature import fit_temperatures
    from ranet.calibration.solvers.budget import calibrate, calibrate_each
    from ranet.calibration.solvers.calibration import Calibration
    from ranet.calibration.solvers.deadline import exit_for_deadline
    from ranet.calibration.solvers.geometric import PAPER_RATIOS, geometric_policy, geometric_thresholds
    from ranet.cost.table import CostTable, checked_costs

__all__ = [
    "ExitScores",
    "ScoreCache",
    "fit_temperatures",
    "ExitPolicy",
    "load_policy",
    "PAPER_RATIOS",
    "geometric_policy",
    "geometric_thresholds",
    "PolicyOutcome",
    "checked_costs",
    "evaluate_policy",
    "evaluate_thresholds",
    "POLICIES",
    "Calibration",
    "calibrate",
    "calibrate_each",
    "CostTable",
    "calibrate_risk",
    "exit_for_deadline",
]
__getattr__, __dir__ = lazy_exports(__name__)
