"""Evaluation of scores: anytime and budgeted curves, calibration error, drift, tables, figures and comparisons."""

from ranet.evaluation.comparison.comparison import Comparison, compare
from ranet.evaluation.comparison.finished_runs import FinishedRun, find_runs, read_run
from ranet.evaluation.curves.anytime import (
    AnytimeCurve,
    anytime_curve,
    calibration_error_per_exit,
    expected_calibration_error,
)
from ranet.evaluation.curves.budgeted import BudgetedCurve, budgeted_curve
from ranet.evaluation.curves.difficulty import DifficultyTable, difficulty_table
from ranet.evaluation.curves.published import PublishedPoint, published_points
from ranet.evaluation.policies.drift import DriftReport, measure_drift
from ranet.evaluation.policies.promise_and_truth import PolicyReport, policy_report
from ranet.evaluation.policies.solved import CalibrationReport, calibration_report
from ranet.evaluation.reports.comparison import write_comparison
from ranet.evaluation.reports.network import Report, write_report

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
