"""The report of `ranet calibrate`: solved policies beside each exit alone."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan

from ranet.cost.units import CostScale
from ranet.evaluation.cells import accuracy_column, interval_values, share_column, share_values, with_unit
from ranet.evaluation.figures.curves import calibration_figure
from ranet.evaluation.policies.solved import CalibrationReport, SolvedPolicy, StaticExits
from ranet.evaluation.reports.document import Document
from ranet.support.sheet import Column, Row, Sheet


def calibration_document(
    report: CalibrationReport, title: str, sentences: Sequence[str] = (), *, draw: bool = True
) -> Document:
    """Return the tables, sentences and files of a calibration.

    The files are calibration.csv; with labels static_exits.csv; and calibration.png, if it is to be drawn and each
    policy has an accuracy.
    """
    sheets = {"calibration.csv": policies_sheet(report)}
    if report.exits.top1:
        sheets["static_exits.csv"] = exits_sheet(report.exits)
    drawn = draw and not any(isnan(solved.calibration.predicted_accuracy) for solved in report.policies)
    figures = {"calibration.png": calibration_figure(report, title)} if drawn else {}
    return Document(title, list(sheets.values()), sentences, {**sheets, **figures})


def policies_sheet(report: CalibrationReport) -> Sheet:
    """Return the table of the policies, one row each."""
    unit, exits = report.exits.unit, len(report.exits.costs)
    scale = CostScale.of(report.exits.costs, unit)
    columns = [
        Column("budget", with_unit("budget", unit), scale.text),
        Column("cost", with_unit("predicted_cost", unit), scale.text),
        accuracy_column("top-1 %", "predicted_accuracy_percent"),
        share_column("predicted_share", exits),
    ]
    if report.exits.test is not None:
        columns += [
            Column("test cost", with_unit("test_cost", unit), scale.text),
            Column("off by %", "test_cost_against_budget_percent", "+.2f"),
            accuracy_column("test top-1 %", "test_accuracy_percent"),
        ]
    caption = f"{f'cost in {scale.label}; ' if unit else ''}in brackets 95 % intervals"
    return Sheet("Exit policies", [_row(solved, unit) for solved in report.policies], columns, caption)


def exits_sheet(exits: StaticExits) -> Sheet:
    """Return the table of each exit alone, on the splits that have labels."""
    cost = with_unit("cost", exits.unit)
    rows: list[Row] = [{"exit": k + 1, cost: float(of_exit)} for k, of_exit in enumerate(exits.costs)]
    columns = [Column("exit"), Column("cost", cost, CostScale.of(exits.costs, exits.unit).text)]
    for split, top1 in exits.top1.items():
        name = f"{split}_accuracy_percent"
        columns.append(accuracy_column(f"{split} top-1 %", name))
        for k, row in enumerate(rows):
            row |= {name: 100 * float(top1[k]), **interval_values(name, exits.interval(split, k), 100)}
    return Sheet("Each exit alone", rows, columns)


def _row(solved: SolvedPolicy, unit: str) -> Row:
    of, cost = solved.calibration, with_unit("predicted_cost", unit)
    row: Row = {
        "policy": of.policy.promise.family,
        "score": of.policy.score,
        "chosen": "" if of.instead is None else of.instead.chosen,
        with_unit("budget", unit): solved.budget,
        cost: of.predicted_cost,
        **interval_values(cost, of.cost_interval),
        "predicted_accuracy_percent": 100 * of.predicted_accuracy,
        **interval_values("predicted_accuracy_percent", of.interval, 100),
        **share_values("predicted_share", of.exit_shares),
    }
    if solved.seen is not None and solved.seen_intervals is not None:
        row |= {
            with_unit("test_cost", unit): solved.seen.mean_cost,
            "test_cost_against_budget_percent": 100 * (solved.seen.mean_cost / solved.budget - 1),
            "test_accuracy_percent": 100 * solved.seen.accuracy,
            **interval_values("test_accuracy_percent", solved.seen_intervals.accuracy, 100),
            **share_values("test_share", solved.seen.exit_shares),
        }
    return row | {f"threshold_{k}": float(value) for k, value in enumerate(of.policy.thresholds, 1)}
