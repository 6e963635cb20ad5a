"""The tables of `ranet evaluate`: each exit, and the sweep over budgets."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ranet.calibration.policies.outcome import PolicyOutcome
from ranet.cost.units import CostScale
from ranet.evaluation.cells import accuracy_column, interval_of, interval_values, share_column, share_values, with_unit
from ranet.evaluation.curves.anytime import AnytimeCurve
from ranet.evaluation.curves.budgeted import BudgetedCurve
from ranet.support.sheet import Column, Row, Sheet


def anytime_rows(curve: AnytimeCurve, unit: str) -> list[Row]:
    """Return one row for each exit: cost and accuracy."""
    return [
        {
            "exit": k + 1,
            with_unit("cost", unit): float(curve.cost[k]),
            "top1_percent": 100 * float(curve.top1[k]),
            "top5_percent": 100 * float(curve.top5[k]),
            **interval_values("top1_percent", interval_of(curve.top1[k], curve.images), 100),
            **interval_values("top5_percent", interval_of(curve.top5[k], curve.images), 100),
        }
        for k in range(len(curve.cost))
    ]


def exits_sheet(
    curve: AnytimeCurve, unit: str, outcome: PolicyOutcome | None = None, policy_name: str = "the policy given"
) -> Sheet:
    """Return the table of the exits: the anytime row, its calibration, and its share under a policy."""
    scale = CostScale.of(curve.cost, unit)
    columns = [
        Column("exit"),
        Column("cost", with_unit("cost", unit), scale.text),
        accuracy_column("top-1 %", "top1_percent"),
        Column("top-5 %", "top5_percent", ".2f"),
        Column("ECE", "calibration_error", ".4f"),
    ]
    rows = anytime_rows(curve, unit)
    for k, row in enumerate(rows):
        row |= {"calibration_error": float(curve.calibration_error[k]), "mean_confidence": float(curve.confidence[k])}
    caption = f"cost in {scale.label}; in brackets 95 % intervals"
    if outcome is not None:
        shares, right = "share_percent", "accuracy_of_those_that_left_percent"
        for k, row in enumerate(rows):
            row |= {shares: 100 * float(outcome.exit_shares[k]), right: 100 * float(outcome.accuracy_per_exit[k])}
        columns += [Column("leave %", shares, ".2f"), Column("right of them %", right, ".2f")]
        caption += f"\nexits under: {policy_name}"
    return Sheet("Exits", rows, columns, caption)


def budgeted_sheet(curve: BudgetedCurve, costs: npt.NDArray[np.float64], unit: str) -> Sheet:
    """Return the table of the sweep, one row for each ratio, under the reference's names where it has them."""
    scale, cost = CostScale.of(costs, unit), with_unit("test_mean", unit or "cost")
    rows: list[Row] = [
        {
            "ratio": float(ratio),
            "val_accuracy_percent": 100 * float(curve.validation_accuracy[i]),
            "test_accuracy_percent": 100 * float(curve.accuracy[i]),
            cost: float(curve.mean_cost[i]),
            **interval_values("test_accuracy_percent", interval_of(curve.accuracy[i], curve.images), 100),
            **{f"threshold_{k}": float(value) for k, value in enumerate(curve.thresholds[i], start=1)},
            **share_values("share", curve.exit_shares[i]),
            **share_values("accuracy", curve.accuracy_per_exit[i]),
        }
        for i, ratio in enumerate(curve.ratios)
    ]
    columns = [
        Column("ratio", form=".3g"),
        Column("mean cost", cost, scale.text),
        accuracy_column("top-1 %", "test_accuracy_percent"),
        share_column("share", len(costs)),
    ]
    caption = f"cost in {scale.label}; in brackets 95 % intervals"
    return Sheet("Budgeted batch classification", rows, columns, caption)


def some_points(sheet: Sheet, mean_cost: npt.NDArray[np.float64], points: int = 8) -> Sheet:
    """Return some rows of the sweep, evenly spread over the mean cost."""
    wanted = np.linspace(mean_cost.min(), mean_cost.max(), points)
    nearest = {int(np.abs(mean_cost - cost).argmin()) for cost in wanted}
    return replace(sheet, rows=[sheet.rows[i] for i in sorted(nearest, key=lambda i: mean_cost[i])])
