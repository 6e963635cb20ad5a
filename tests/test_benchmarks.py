"""The benchmark of the exit policies does what its table says."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ranet import ExitScores

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
def test_the_benchmark_of_the_policies_writes_its_table(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    folder = tmp_path / "run" / "evaluation"
    folder.mkdir(parents=True)
    for split in ("validation", "test"):
        logits, labels = rng.normal(size=(3, 300, 5)), rng.integers(5, size=300)
        ExitScores.from_logits(logits + 2 * np.eye(5)[labels], labels).save(folder / f"scores_{split}.npz")
    (folder / "costs.json").write_text(json.dumps({"paper_ops_per_exit": [1.0, 2.0, 3.0]}))
    command = [sys.executable, "-m", "benchmarks.solvers", tmp_path / "out", folder]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    rows = list(csv.DictReader((tmp_path / "out" / "run.csv").open()))
    assert len(rows) == 7 * 20
    of_the_rule = [row for row in rows if row["policy"] == "geometric"]
    assert all(float(row["against_geometric_points"]) == 0 for row in of_the_rule)
    table = (tmp_path / "out" / "summary.md").read_text()
    mean = np.mean([float(row["test_accuracy_percent"]) for row in of_the_rule])
    assert f"| run | `geometric` | {max(abs(float(r['test_cost_off_percent'])) for r in of_the_rule):.2f} % |" in table
    assert f"{mean:.2f}" in table
