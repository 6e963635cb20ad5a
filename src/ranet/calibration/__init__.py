"""Exit scores, exit policies, and the solvers that make a policy meet a budget, a risk or a deadline."""

from ranet.calibration.deadline import DeadlineChoice, exit_for_deadline
from ranet.calibration.geometric import PAPER_RATIOS, geometric_policy, geometric_thresholds
from ranet.calibration.outcome import PolicyOutcome, checked_costs, evaluate_policy, evaluate_thresholds
from ranet.calibration.policies import ExitPolicy, load_policy
from ranet.calibration.promise import Calibration
from ranet.calibration.risk import RiskCalibration, calibrate_risk
from ranet.calibration.score_cache import ScoreCache, default_cache
from ranet.calibration.scores import ExitScores
from ranet.calibration.solve import POLICIES, calibrate, calibrate_each
from ranet.calibration.temperature import fit_temperatures

__all__ = [
    "ExitScores",
    "ScoreCache",
    "default_cache",
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
    "RiskCalibration",
    "calibrate_risk",
    "DeadlineChoice",
    "exit_for_deadline",
]
