"""Promise and truth: what a policy's file predicts, beside what the policy does on other images."""

from __future__ import annotations

from dataclasses import dataclass
from math import nan
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.table import Table

from ranet.calibration import ExitPolicy, ExitScores, PolicyOutcome, evaluate_policy
from ranet.calibration.outcome import checked_costs
from ranet.calibration.strict_json import strict_json
from ranet.errors import UserError
from ranet.evaluation.tables import percent, write_csv
from ranet.evaluation.units import CostScale
from ranet.files import written_whole


@dataclass(frozen=True, eq=False)
class PolicyReport:
    """What a policy promises and what it does.

    Attributes:
        policy: with the promise in its metadata, if `calibrate` made it.
        promised: on validation; NaN where the policy says nothing.
        seen: on the images scored here.
        cost_per_exit: (K,).
        unit: of the costs.
        budget: that the policy was made for; NaN if it names none.
        images: how many were scored.
    """

    policy: ExitPolicy
    promised: PolicyOutcome
    seen: PolicyOutcome
    cost_per_exit: npt.NDArray[np.float64]
    unit: str
    budget: float
    images: int

    def table(self, seen_on: str = "seen") -> Table:
        """The comparison for the console; the second column is called as the caller says, such as "on test"."""
        scale = CostScale.of(self.cost_per_exit, self.unit)
        budget = "" if np.isnan(self.budget) else f"\nbudget {scale.text(self.budget)}"
        table = Table(title="The policy: promise and truth", caption=f"cost in {scale.label}{budget}")
        for name in ("", "promised", seen_on):
            table.add_column(name, justify="right")
        promised, seen = self.promised, self.seen
        cost = "-" if np.isnan(promised.mean_cost) else scale.text(promised.mean_cost)
        table.add_row("mean cost", cost, scale.text(seen.mean_cost))
        table.add_row("top-1 %", percent(promised.accuracy), percent(seen.accuracy))
        for k, (expected, share) in enumerate(zip(promised.exit_shares, seen.exit_shares, strict=True), start=1):
            table.add_row(f"leave at exit {k} %", percent(expected), percent(share))
        for k, accuracy in enumerate(seen.accuracy_per_exit, start=1):
            table.add_row(f"right of those, exit {k} %", "-", percent(accuracy))
        return table

    def write(self, folder: str | Path) -> tuple[Path, Path]:
        """Write policy_report.csv (one row for each exit) and policy_report.json (everything) into the folder."""
        folder = Path(folder)
        rows = [
            {
                "exit": k + 1,
                f"cost_{self.unit}" if self.unit else "cost": float(self.cost_per_exit[k]),
                "threshold": [*self.policy.thresholds, nan][k],
                "promised_share_percent": 100 * float(self.promised.exit_shares[k]),
                "share_percent": 100 * float(self.seen.exit_shares[k]),
                "accuracy_of_those_that_left_percent": 100 * float(self.seen.accuracy_per_exit[k]),
            }
            for k in range(self.policy.num_exits)
        ]
        csv_file, json_file = folder / "policy_report.csv", folder / "policy_report.json"
        write_csv(csv_file, rows)
        content = {
            "unit": self.unit,
            "budget": self.budget,
            "images": self.images,
            "cost_per_exit": self.cost_per_exit,
            "promised": vars(self.promised),
            "seen": vars(self.seen),
            "thresholds": self.policy.thresholds,
        }
        with written_whole(json_file) as partial:
            partial.write_text(strict_json(content), encoding="utf-8")
        return csv_file, json_file


def policy_report(
    policy: ExitPolicy, scores: ExitScores, cost_per_exit: npt.ArrayLike | None = None, unit: str | None = None
) -> PolicyReport:
    """Apply a policy to scored images and set the result beside what the policy promises.

    Args:
        policy: as `load_policy` gives it.
        scores: of images that the policy was not made on.
        cost_per_exit: (K,); by default the costs in the policy's metadata.
        unit: of the costs; by default the one in the metadata.

    Raises:
        UserError: if policy and scores are of different numbers of exits, or nobody says what the exits cost.
    """
    if cost_per_exit is None:
        cost_per_exit = policy.metadata.get("cost_per_exit")
        if cost_per_exit is None:
            raise UserError("The policy does not say what its exits cost: give the cost of each exit.")
    policy.require_exits(scores.num_exits)
    costs = checked_costs(cost_per_exit, policy.num_exits)
    return PolicyReport(
        policy=policy,
        promised=_promise(policy),
        seen=evaluate_policy(policy, scores, costs),
        cost_per_exit=costs,
        unit=policy.metadata.get("unit", "") if unit is None else unit,
        budget=_number(policy.metadata.get("budget")),
        images=scores.num_images,
    )


def _promise(policy: ExitPolicy) -> PolicyOutcome:
    """The prediction in the metadata, NaN where there is none: policies can be written by hand."""
    predicted = policy.metadata.get("predicted")
    predicted = predicted if isinstance(predicted, dict) else {}
    shares = predicted.get("exit_shares")
    shares = shares if isinstance(shares, list) and len(shares) == policy.num_exits else [None] * policy.num_exits
    return PolicyOutcome(
        accuracy=_number(predicted.get("accuracy")),
        mean_cost=_number(predicted.get("cost")),
        exit_shares=np.array([_number(share) for share in shares]),
        accuracy_per_exit=np.full(policy.num_exits, nan),
    )


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else nan
