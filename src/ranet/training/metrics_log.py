"""The CSV file of a run's metrics, which a resumed run continues."""

from __future__ import annotations

import csv
from pathlib import Path

from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.utilities.rank_zero import rank_zero_only

FILE = "metrics.csv"


class MetricsLog(CSVLogger):
    """Writes ``metrics.csv`` into the run folder, one row per epoch and split.

    Args:
        folder: the run folder.
        resume_step: keep the rows of the steps before this one, at which the run is resumed; without it, start anew.
    """

    def __init__(self, folder: str | Path, resume_step: int | None = None) -> None:
        super().__init__(str(folder), name="", version="")
        if resume_step is not None:
            self._continue(Path(folder) / FILE, resume_step)

    @rank_zero_only
    def _continue(self, path: Path, resume_step: int) -> None:
        # Lightning deletes the file when it opens the log: keep it aside until the new one holds its rows.
        kept = path.with_name(".metrics_before_resume.csv")
        if path.exists() and not kept.exists():
            path.rename(kept)
        if not kept.exists():
            return
        with kept.open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if int(row["step"]) < resume_step]
        log = self.experiment
        log.metrics = [{key: value for key, value in row.items() if value != ""} for row in rows]
        log.save()
        kept.unlink()
