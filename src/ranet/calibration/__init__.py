"""Exit scores, exit policies, and the solvers that make a policy meet a budget, a risk or a deadline."""

from typing import TYPE_CHECKING

from ranet.lazy import lazy_exports

if TYPE_CHECKING:
    from ranet.calibration.deadline import DeadlineChoice, exit_for_deadline
    from ranet.calibration.exit_choice import ExitCalibration, calibrate_exits, calibrate_exits_each
    from ranet.calibration.fused_stage_costs import FusedStageCosts
    from ranet.calibration.geometric import PAPER_RATIOS, geometric_policy, geometric_thresholds
    from ranet.calibration.options import POLICIES
    from ranet.calibration.outcome import PolicyOutcome, checked_costs, evaluate_policy, evaluate_thresholds
    from ranet.calibration.policies import ExitPolicy, load_policy
    from ranet.calibration.promise import Calibration
    from ranet.calibration.risk import RiskCalibration, calibrate_risk
    from ranet.calibration.score_cache import ScoreCache
    from ranet.calibration.scores import ExitScores
    from ranet.calibration.solve import calibrate, calibrate_each
    from ranet.calibration.temperature import fit_temperatures

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
    "FusedStageCosts",
    "ExitCalibration",
    "calibrate_exits",
    "calibrate_exits_each",
    "RiskCalibration",
    "calibrate_risk",
    "DeadlineChoice",
    "exit_for_deadline",
]
_PARTS = {
    "ranet.calibration.deadline": ["DeadlineChoice", "exit_for_deadline"],
    "ranet.calibration.exit_choice": ["ExitCalibration", "calibrate_exits", "calibrate_exits_each"],
    "ranet.calibration.fused_stage_costs": ["FusedStageCosts"],
    "ranet.calibration.geometric": ["PAPER_RATIOS", "geometric_policy", "geometric_thresholds"],
    "ranet.calibration.options": ["POLICIES"],
    "ranet.calibration.outcome": ["PolicyOutcome", "checked_costs", "evaluate_policy", "evaluate_thresholds"],
    "ranet.calibration.policies": ["ExitPolicy", "load_policy"],
    "ranet.calibration.promise": ["Calibration"],
    "ranet.calibration.risk": ["RiskCalibration", "calibrate_risk"],
    "ranet.calibration.score_cache": ["ScoreCache"],
    "ranet.calibration.scores": ["ExitScores"],
    "ranet.calibration.solve": ["calibrate", "calibrate_each"],
    "ranet.calibration.temperature": ["fit_temperatures"],
}
__getattr__, __dir__ = lazy_exports(__name__, _PARTS)
