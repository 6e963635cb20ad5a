"""The report of `ranet evaluate policy=`: the promise of a policy beside its results."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan, nan
from typing import Any

from ranet.cost.units import CostScale
from ranet.evaluation.cells import accuracy_text, interval_text, percent, with_unit
from ranet.evaluation.policies.promise_and_truth import PolicyReport
from ranet.evaluation.reports.document import Document
from ranet.support.sheet import Row, Sheet, sheet_of_cells

TITLE = "The policy: promise and truth"


def policy_document(report: PolicyReport, seen_on: str = "seen", more: Sequence[str] = ()) -> Document:
    """Return the table, sentences and files: policy_report.csv (one row for each exit) and policy_report.json.

    The results have a heading such as "on test".
    """
    return Document(
        TITLE,
        [promise_sheet(report, seen_on)],
        [*report.sentences, *more],
        {"policy_report.csv": Sheet("Exits", _rows(report)), "policy_report.json": _content(report)},
    )


def promise_sheet(report: PolicyReport, seen_on: str = "seen") -> Sheet:
    """Return the table of promise and results side by side."""
    scale = CostScale.of(report.cost_per_exit, report.unit)
    promised, seen = report.promised, report.seen
    intervals = (report.promised_intervals, report.seen_intervals)
    lines = [
        ("mean cost", "-" if isnan(promised.mean_cost) else scale.text(promised.mean_cost), scale.text(seen.mean_cost)),
        ("95 % interval", *(interval_text(each.cost, 1 / scale.divisor, "#.4g") for each in intervals)),
        ("top-1 %", percent(promised.accuracy), percent(seen.accuracy)),
        ("95 % interval", *(interval_text(each.accuracy, 100, ".2f") for each in intervals)),
    ]
    for k, shares in enumerate(zip(promised.exit_shares, seen.exit_shares, strict=True), start=1):
        lines.append((f"leave at exit {k} %", *map(percent, shares)))
    for k, (right, share) in enumerate(zip(seen.accuracy_per_exit, seen.exit_shares, strict=True), start=1):
        lines.append((f"right of those, exit {k} %", "-", accuracy_text(right, round(share * report.images))))
    budget = "" if isnan(report.budget) else f"; budget {scale.text(report.budget)}"
    return sheet_of_cells(TITLE, ("", "promised", seen_on), lines, f"cost in {scale.label}{budget}")


def _rows(report: PolicyReport) -> list[Row]:
    return [
        {
            "exit": k + 1,
            with_unit("cost", report.unit): float(report.cost_per_exit[k]),
            "threshold": [*report.policy.thresholds, nan][k],
            "promised_share_percent": 100 * float(report.promised.exit_shares[k]),
            "share_percent": 100 * float(report.seen.exit_shares[k]),
            "accuracy_of_those_that_left_percent": 100 * float(report.seen.accuracy_per_exit[k]),
        }
        for k in range(report.policy.num_exits)
    ]


def _content(report: PolicyReport) -> dict[str, Any]:
    return {
        "unit": report.unit,
        "budget": report.budget,
        "images": report.images,
        "cost_per_exit": report.cost_per_exit,
        "promised": vars(report.promised),
        "promised_intervals": vars(report.promised_intervals),
        "seen": vars(report.seen),
        "seen_intervals": vars(report.seen_intervals),
        "cost_difference": report.cost_difference and vars(report.cost_difference),
        "accuracy_difference": report.accuracy_difference and vars(report.accuracy_difference),
        "thresholds": report.policy.thresholds,
        "guarantee": report.policy.metadata.get("guarantee"),
        "risk": report.risk,
    }
