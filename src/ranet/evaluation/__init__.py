"""What scores come to: anytime and budgeted curves, calibration error, drift, tables, figures and comparisons."""

from ranet.evaluation.anytime import AnytimeCurve, anytime_curve
from ranet.evaluation.budgeted import BudgetedCurve, budgeted_curve
from ranet.evaluation.calibration_report import CalibrationReport, calibration_report
from ranet.evaluation.comparison import Comparison, compare
from ranet.evaluation.comparison_report import write_comparison
from ranet.evaluation.difficulty import DifficultyTable, difficulty_table
from ranet.evaluation.drift import DriftReport, measure_drift
from ranet.evaluation.finished_runs import FinishedRun, find_runs, read_run
from ranet.evaluation.metrics import calibration_error_per_exit, expected_calibration_error
from ranet.evaluation.policy_report import PolicyReport, policy_report
from ranet.evaluation.published import PublishedPoint, published_points
from ranet.evaluation.report import Report, write_report

__all__ = [
    "AnytimeCurve",
    "anytime_curve",
    "BudgetedCurve",
    "budgeted_curve",
    "expected_calibration_error",
    "calibration_error_per_exit",
    "DifficultyTable",
    "difficulty_table",
    "PublishedPoint",
    "published_points",
    "PolicyReport",
    "policy_report",
    "CalibrationReport",
    "calibration_report",
    "DriftReport",
    "measure_drift",
    "Report",
    "write_report",
    "FinishedRun",
    "find_runs",
    "read_run",
    "Comparison",
    "compare",
    "write_comparison",
]
