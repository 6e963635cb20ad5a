"""What the exit policies are worth: solved on validation, seen on test, over 20 budgets, for every family.

    python -m benchmarks.solvers OUTPUT FOLDER [FOLDER ...]

Each FOLDER holds scores_validation.npz, scores_test.npz and costs.json, as ``ranet evaluate`` writes them. OUTPUT gets
a CSV for each, and what is printed: for each family how far the realised cost is from the budget, and how its accuracy
differs from the geometric rule's, with paired intervals over the test images.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ranet import ExitPolicy, ExitScores, calibrate_each, evaluate_policy
from ranet.calibration import POLICIES
from ranet.calibration.policies.intervals import accuracy_difference
from ranet.support.sheet import Row, Sheet

TRIED: dict[str, dict[str, Any]] = {
    **{family: {"policy": family} for family in POLICIES},
    "optimal, folds=0": {"policy": "optimal", "folds": 0},
}
BUDGETS = 20
UNIT = "paper_ops"


def budgets(costs: np.ndarray) -> np.ndarray:
    """Evenly between the first exit's cost and the last's, without the two ends, where there is nothing to solve."""
    return costs[0] + (np.arange(BUDGETS) + 0.5) / BUDGETS * (costs[-1] - costs[0])


def right(policy: ExitPolicy, scores: ExitScores) -> np.ndarray:
    """(N,) whether each image is answered rightly."""
    return scores.correct[policy.exits(scores), np.arange(scores.num_images)]


def try_families(folder: Path) -> list[Row]:
    """One row for each family and budget."""
    validation, test = (ExitScores.load(folder / f"scores_{split}.npz") for split in ("validation", "test"))
    costs = np.array(json.loads((folder / "costs.json").read_text())[f"{UNIT}_per_exit"], dtype=float)
    # The families themselves: what `ranet calibrate` chooses instead of some of their policies is left out.
    solve = partial(calibrate_each, validation, costs, budgets(costs), alternatives=False)
    geometric = [one.policy for one in solve()]
    rows: list[Row] = []
    for family, options in TRIED.items():
        for solved, rule in zip(solve(**options), geometric, strict=True):
            seen = evaluate_policy(solved.policy, test, costs)
            difference, (low, high) = accuracy_difference(right(solved.policy, test), right(rule, test))
            budget = float(solved.policy.metadata["budget"])
            rows.append(
                {
                    "policy": family,
                    f"budget_{UNIT}": budget,
                    f"validation_cost_{UNIT}": solved.predicted_cost,
                    f"test_cost_{UNIT}": seen.mean_cost,
                    "test_cost_off_percent": 100 * (seen.mean_cost / budget - 1),
                    "validation_accuracy_percent": 100 * solved.predicted_accuracy,
                    "test_accuracy_percent": 100 * seen.accuracy,
                    "against_geometric_points": 100 * difference,
                    "against_geometric_points_low": 100 * low,
                    "against_geometric_points_high": 100 * high,
                    "accepted": int(bool(solved.parameters.get("accepted", True))),
                }
            )
    return rows


def summary(name: str, rows: list[Row]) -> list[str]:
    """A line of a Markdown table for each family."""
    lines = []
    for family in TRIED:
        of = [row for row in rows if row["policy"] == family]
        off = max(abs(float(row["test_cost_off_percent"])) for row in of)
        differences = [float(row["against_geometric_points"]) for row in of]
        worse = sum(float(row["against_geometric_points_high"]) < 0 for row in of)
        better = sum(float(row["against_geometric_points_low"]) > 0 for row in of)
        accuracy = np.mean([float(row["test_accuracy_percent"]) for row in of])
        lines.append(
            f"| {name} | `{family}` | {off:.2f} % | {accuracy:.2f} | {np.mean(differences):+.2f} | "
            f"{min(differences):+.2f} to {max(differences):+.2f} | {better} / {worse} |"
        )
    return lines


def main() -> None:
    """Try every family on every folder, print the table, and write it and the rows."""
    output, *folders = map(Path, sys.argv[1:])
    lines = [
        f"| network | policy | furthest from the budget | mean top-1 of {BUDGETS} budgets | against `geometric`: mean "
        "| least to most | better / worse |",
        "|---|---|---|---|---|---|---|",
    ]
    for folder in folders:
        rows = try_families(folder)
        name = folder.parent.name if folder.name == "evaluation" else folder.name
        Sheet(name, rows).write_csv(output / f"{name}.csv")
        lines += summary(name, rows)
        print("\n".join(lines), flush=True)
    (output / "summary.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
