"""The report of ranet calibrate: every solved policy with its promise, and its results on test images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.table import Table

from ranet.calibration.policies.calibration import Calibration
from ranet.calibration.policies.intervals import OutcomeIntervals, outcome_intervals
from ranet.calibration.policies.outcome import PolicyOutcome, evaluate_policy
from ranet.calibration.scores.exit_scores import ExitScores
from ranet.cost.units import CostScale
from ranet.evaluation.curves.static_exits import StaticExits, choice_sentences
from ranet.evaluation.figures.calibration import Exits, Promised, Seen, calibration_figure
from ranet.evaluation.figures.style import save_figure
from ranet.evaluation.tables import Row, interval_columns, percent, with_interval, write_csv


@dataclass(frozen=True, eq=False)
class SolvedPolicy:
    """A solved policy, and its results on test images.

    Attributes:
        calibration: the policy and its promise.
        seen: outcome on test images; None without them.
        seen_intervals: intervals of accuracy and mean cost on test images (95 %); None without test images.
    """

    calibration: Calibration
    seen: PolicyOutcome | None = None
    seen_intervals: OutcomeIntervals | None = None

    @property
    def budget(self) -> float:
        """The budget of the policy; NaN if it was made for another goal."""
        return self.calibration.policy.promise.budget

    @property
    def exceeds_budget_by(self) -> float:
        """The mean cost on test minus the budget, as a fraction of the budget; NaN without test images or budget."""
        return nan if self.seen is None else self.seen.mean_cost / self.budget - 1


@dataclass(frozen=True, eq=False)
class CalibrationReport:
    """Some policies of one network, solved on the same images.

    Attributes:
        policies: the policies, cheapest first.
        exits: each exit alone, on the same images.
        tested: whether there are test images.
    """

    policies: Sequence[SolvedPolicy]
    exits: StaticExits
    tested: bool

    def table(self) -> Table:
        """Return the policies for the console, one row each."""
        scale = self._scale
        of_cost = f"cost in {scale.label}; " if self.exits.unit else ""
        table = Table(title="Exit policies", caption=f"{of_cost}in brackets 95 % intervals", box=None)
        names = ["budget", "cost", "top-1 %", f"leave at exits 1 to {len(self.exits.costs)} %"]
        names += ["test cost", "off by %", "test top-1 %"] if self.tested else []
        for name in names:
            table.add_column(name, justify="right")
        for solved in self.policies:
            of = solved.calibration
            cells = [
                "-" if np.isnan(solved.budget) else scale.text(solved.budget),
                scale.text(of.predicted_cost),
                with_interval(of.predicted_accuracy, of.interval),
                " ".join(f"{100 * share:2.0f}" for share in of.exit_shares),
            ]
            if solved.seen is not None and solved.seen_intervals is not None:
                over = solved.exceeds_budget_by
                cells += [
                    scale.text(solved.seen.mean_cost),
                    "-" if np.isnan(over) else f"{100 * over:+.2f}",
                    with_interval(solved.seen.accuracy, solved.seen_intervals.accuracy),
                ]
            table.add_row(*cells)
        return table

    @property
    def _scale(self) -> CostScale:
        return CostScale.of(self.exits.costs, self.exits.unit)

    @property
    def sentences(self) -> list[str]:
        """Sentences on what the tables do not show."""
        said = choice_sentences([solved.calibration for solved in self.policies], self.exits)
        return said if self.remark is None else [*said, self.remark]

    @property
    def remark(self) -> str | None:
        """A sentence on the budget beyond which accuracy no longer rises, for three or more policies; else None."""
        accuracies = np.array([solved.calibration.predicted_accuracy for solved in self.policies])
        if len(accuracies) < 3 or np.isnan(accuracies).any() or accuracies.argmax() == len(accuracies) - 1:
            return None
        best = [solved for solved in self.policies if solved.calibration.predicted_accuracy == accuracies.max()]
        cost = self._scale.text(best[0].calibration.predicted_cost)
        budgets = [solved.budget for solved in best]
        on = "" if np.isnan(budgets).any() else f"from a budget of {self._scale.text(min(budgets))} on, "
        return (
            f"On these validation images no policy is more accurate than the one of mean cost {cost} "
            f"({percent(accuracies.max())} %): {on}more budget gives no more accuracy."
        )

    def rows(self) -> list[Row]:
        """Return one row for each policy, for CSV files."""
        of_unit = f"_{self.exits.unit}" if self.exits.unit else ""
        rows: list[Row] = []
        for solved in self.policies:
            of = solved.calibration
            row: Row = {
                "policy": of.policy.promise.family,
                "score": of.policy.score,
                "chosen": "" if of.instead is None else of.instead.chosen,
                f"budget{of_unit}": solved.budget,
                f"predicted_cost{of_unit}": of.predicted_cost,
                **interval_columns(f"predicted_cost{of_unit}", of.cost_interval),
                "predicted_accuracy_percent": 100 * of.predicted_accuracy,
                **interval_columns("predicted_accuracy_percent", of.interval, 100),
            }
            row |= {f"predicted_share_{k}_percent": 100 * float(share) for k, share in enumerate(of.exit_shares, 1)}
            if solved.seen is not None and solved.seen_intervals is not None:
                row[f"test_cost{of_unit}"] = solved.seen.mean_cost
                row["test_cost_against_budget_percent"] = 100 * solved.exceeds_budget_by
                row["test_accuracy_percent"] = 100 * solved.seen.accuracy
                row |= interval_columns("test_accuracy_percent", solved.seen_intervals.accuracy, 100)
                row |= {f"test_share_{k}_percent": 100 * float(s) for k, s in enumerate(solved.seen.exit_shares, 1)}
            row |= {f"threshold_{k}": float(value) for k, value in enumerate(of.policy.thresholds, 1)}
            rows.append(row)
        return rows

    def write(self, folder: str | Path, title: str | None = "Exit policies") -> list[Path]:
        """Write calibration.csv into the folder; with labels static_exits.csv and, with a title, calibration.png."""
        folder = Path(folder)
        written = [folder / "calibration.csv"]
        write_csv(written[0], self.rows())
        if self.exits.top1:
            written.append(folder / "static_exits.csv")
            write_csv(written[1], self.exits.rows())
        if (
            title is not None
            and not np.isnan([solved.calibration.predicted_accuracy for solved in self.policies]).any()
        ):
            written.append(folder / "calibration.png")
            figure = calibration_figure(self._promised, self._seen, self._exits, self.exits.unit, title)
            save_figure(figure, written[-1])
        return written

    @property
    def _promised(self) -> Promised:
        calibrations = [solved.calibration for solved in self.policies]
        return Promised(
            cost=np.array([of.predicted_cost for of in calibrations]),
            accuracy=np.array([of.predicted_accuracy for of in calibrations]),
            interval=np.array([of.interval for of in calibrations]),
        )

    @property
    def _seen(self) -> Seen | None:
        seen = [solved.seen for solved in self.policies if solved.seen is not None]
        if not seen or np.isnan(seen[0].accuracy):
            return None
        return Seen(np.array([one.mean_cost for one in seen]), np.array([one.accuracy for one in seen]))

    @property
    def _exits(self) -> Exits:
        split = "test" if self._seen is not None else "validation"
        return Exits(self.exits.costs, self.exits.accuracy(split), split)


def calibration_report(
    calibrations: Sequence[Calibration],
    validation: ExitScores,
    test: ExitScores | None,
    costs: npt.NDArray[np.float64],
    unit: str,
) -> CalibrationReport:
    """Evaluate solved policies on test images, if there are any.

    Args:
        calibrations: calibrations of one network in one unit.
        validation: scores that the policies were solved on.
        test: scores of other images; None reports only the promises.
        costs: (K,) cumulative cost of each exit alone; the costs of a policy are in its metadata.
        unit: unit of the costs.

    Raises:
        UserError: if the test scores are of another network, or lack the scores that the policies compare.
    """
    ordered = sorted(calibrations, key=lambda one: one.predicted_cost)
    policies = [SolvedPolicy(one) if test is None else _see(one, test) for one in ordered]
    return CalibrationReport(policies, StaticExits.of(costs, unit, validation, test), test is not None)


def _see(calibration: Calibration, test: ExitScores) -> SolvedPolicy:
    policy = calibration.policy
    costs = policy.promise.costs_of_images(test.executed)  # with the exits that it uses
    exits = policy.exits(test)
    intervals = outcome_intervals(exits, test.correct_at(exits), costs, policy.possible_exits)
    return SolvedPolicy(calibration, evaluate_policy(policy, test, costs), intervals)
