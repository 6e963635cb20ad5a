"""Exit scores, exit policies, and the solver that makes a policy meet a budget."""

from ranet.calibration.geometric import PAPER_RATIOS, geometric_policy, geometric_thresholds
from ranet.calibration.outcome import PolicyOutcome, evaluate_policy, evaluate_thresholds
from ranet.calibration.policies import ExitPolicy, load_policy
from ranet.calibration.promise import Calibration
from ranet.calibration.scores import ExitScores
from ranet.calibration.solve import POLICIES, budget_in_cost, calibrate, calibrate_each

__all__ = [
    "ExitScores",
    "ExitPolicy",
    "load_policy",
    "PAPER_RATIOS",
    "geometric_policy",
    "geometric_thresholds",
    "PolicyOutcome",
    "evaluate_policy",
    "evaluate_thresholds",
    "Calibration",
    "POLICIES",
    "calibrate",
    "calibrate_each",
    "budget_in_cost",
]
