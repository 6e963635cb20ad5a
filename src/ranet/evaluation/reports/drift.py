"""The report of `ranet evaluate policy= images=`: how far images have drifted from those of calibration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from math import isnan
from typing import Any

from ranet.cost.units import CostScale
from ranet.evaluation.cells import p_text, with_unit
from ranet.evaluation.policies.drift import DriftReport
from ranet.evaluation.reports.document import Document
from ranet.support.sheet import Column, Sheet


def drift_document(report: DriftReport, before: Sequence[str] = ()) -> Document:
    """Return the table, sentences (the given ones before those of the report) and files: drift.csv and drift.json."""
    sheet = drift_sheet(report)
    sentences = [*before, *report.notes, report.verdict]
    return Document(sheet.title, [sheet], sentences, {"drift.csv": sheet, "drift.json": _content(report)})


def drift_sheet(report: DriftReport) -> Sheet:
    """Return the table of the exits, with the mean cost below."""
    promise = report.policy.promise
    scale = CostScale.of(report.cost_per_exit, promise.unit)
    rows = [
        {
            "exit": k + 1,
            with_unit("cost", promise.unit): float(report.cost_per_exit[k]),
            "promised_share_percent": 100 * float(promise.exit_shares[k]),
            "share_percent": 100 * float(report.shares[k]),
            "chi_square": drift.test.statistic,
            "degrees_of_freedom": drift.test.degrees,
            "p": drift.test.p_value,
            "corrected_p": drift.corrected_p,
            "stability_index": drift.stability_index,
            "surer_percent": 100 * drift.superiority,
        }
        for k, drift in enumerate(report.scores)
    ]
    columns = [
        Column("exit"),
        Column("left then %", "promised_share_percent", ".2f"),
        Column("leave now %", "share_percent", ".2f"),
        Column("PSI", "stability_index", ".3f"),
        Column("surer now %", "surer_percent", ".1f"),
        Column("p", "corrected_p", p_text),
    ]
    ends = zip(("95 % from", "to"), promise.cost_interval, report.cost_interval, strict=True)
    costs = [("mean cost", report.cost_difference.promised, report.cost), *ends]
    return Sheet(
        f"Drift: images seen ({report.images:,}) beside calibration ({promise.images:,})",
        rows,
        columns,
        f"PSI: stability index of the {report.policy.score}; p of its test, corrected\n"
        "surer now: how often a new image scores above an old one, 50 is no change\n"
        f"cost in {scale.label}",
        below=[
            (name, *("-" if isnan(cost) else scale.text(cost) for cost in (then, now)), "", "", "")
            for name, then, now in costs
        ],
    )


def _content(report: DriftReport) -> dict[str, Any]:
    promise = report.policy.promise
    return {
        "verdict": report.verdict,
        "drifted": report.drifted,
        "images": report.images,
        "calibration_images": promise.images,
        "score": report.policy.score,
        "unit": promise.unit,
        "budget": promise.budget,
        "cost_per_exit": report.cost_per_exit,
        "exit_shares": {
            "promised": promise.exit_shares,
            "seen": report.shares,
            "test": asdict(report.share_test),
            "total_variation": report.share_distance,
        },
        "scores": [asdict(drift) for drift in report.scores],
        "cost": {
            "promised": report.cost_difference.promised,
            "promised_interval": promise.cost_interval,
            "seen": report.cost,
            "seen_interval": report.cost_interval,
            "difference": asdict(report.cost_difference),
            "difference_percent": report.cost_difference.in_percent.value,
            "over_budget_percent": report.over_budget_percent,
        },
    }
