"""The CSV file of a run's metrics, which a resumed run continues."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from ranet.support.files import written_whole

FILE = "metrics.csv"


class MetricsLog(Logger):
    """A logger that writes ``metrics.csv`` into the run folder, with a row for each epoch and split, whole each time.

    Args:
        folder: the run folder.
        resume_step: step at which the run is resumed: earlier rows are kept; None starts a new file.
    """

    def __init__(self, folder: str | Path, resume_step: int | None = None) -> None:
        super().__init__()
        self._path = Path(folder) / FILE
        self._rows: list[dict[str, Any]] = []
        if resume_step is not None and self._path.exists():
            with self._path.open(newline="", encoding="utf-8") as file:
                rows = [row for row in csv.DictReader(file) if int(row["step"]) < resume_step]
            self._rows = [{name: value for name, value in row.items() if value != ""} for row in rows]

    @property
    def name(self) -> str:
        """The name of the file."""
        return FILE

    @property
    def version(self) -> None:
        """None: a run has one log."""

    @rank_zero_only
    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        """Do nothing: the run folder holds the configuration."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Add a row, which `save` writes."""
        self._rows.append({**metrics, "step": step})

    def finalize(self, status: str) -> None:
        """Do nothing: the rows of finished epochs are already written."""

    @rank_zero_only
    def save(self) -> None:
        """Write all rows."""
        if not self._rows:
            return
        with written_whole(self._path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=sorted({name for row in self._rows for name in row}))
            writer.writeheader()
            writer.writerows(self._rows)
