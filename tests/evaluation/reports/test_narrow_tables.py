"""The tables of the commands on terminals of 60 and 80 columns."""

from collections.abc import Callable
from pathlib import Path

from ranet.calibration import calibrate, calibrate_each
from ranet.evaluation import (
    anytime_curve,
    budgeted_curve,
    calibration_report,
    compare,
    measure_drift,
    policy_report,
    read_run,
)
from ranet.evaluation.reports.calibration import policies_sheet
from ranet.evaluation.reports.comparison import budget_sheets, exit_sheets, group_sheet
from ranet.evaluation.reports.drift import drift_sheet
from ranet.evaluation.reports.network import budgeted_sheet, exits_sheet, some_points
from ranet.evaluation.reports.policy import promise_sheet
from ranet.support.sheet import Sheet

Check = Callable[[Sheet], str]


def test_solved_policies_with_what_they_do_on_test(make_scored: Callable, require_readable: Check) -> None:
    many = make_scored(exits=10)
    solved = calibrate_each(many.validation, many.costs, [2e7, 4e7], unit="macs")
    text = require_readable(policies_sheet(calibration_report(solved, many.validation, many.test, many.costs, "macs")))
    assert text.count("top-1 %") >= 1


def test_what_a_network_and_a_policy_come_to(make_scored: Callable, require_readable: Check) -> None:
    many = make_scored(exits=10)
    policy = calibrate(many.validation, many.costs, 3e7, unit="paper_ops").policy
    anytime = anytime_curve(many.test, many.costs)
    report = policy_report(policy, many.test)
    require_readable(exits_sheet(anytime, "paper_ops", report.seen, "geometric policy, ratio 1"))
    curve = budgeted_curve(many.validation, many.test, many.costs)
    require_readable(some_points(budgeted_sheet(curve, many.costs, "macs"), curve.mean_cost))
    require_readable(promise_sheet(report, "on test"))
    require_readable(drift_sheet(measure_drift(policy, many.test)))


def test_many_groups_with_long_names(write_run: Callable[..., Path], tmp_path: Path, require_readable: Check) -> None:
    names = [f"a technique with a long name, {letter}" for letter in "abcdef"]
    options = {"technique.name": "", "optim.optimizer.lr": 0.1}
    folders = [
        write_run(tmp_path / f"{name}{seed}", seed, **{**options, "technique.name": name})
        for name in names
        for seed in (0, 1)
    ]
    comparison = compare([read_run(folder, "macs") for folder in folders], "macs", baseline=names[0], budgets=3)
    for sheet in (*exit_sheets(comparison), *budget_sheets(comparison), group_sheet(comparison)):
        text = require_readable(sheet)
        assert text.count("(n=2)") >= 5 or sheet.title == "Groups"
