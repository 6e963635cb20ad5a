"""Answers as rows of a table: CSV or JSON lines, written as they come."""

from __future__ import annotations

import csv
import errno
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from ranet.errors import UserError
from ranet.inference.engine.answers import Answers
from ranet.inference.predictions.resumable import Origin, ResumableFile, resumable_file, unfinished_files
from ranet.support.console import accept_any_text
from ranet.support.files import WriteError

STANDARD_OUTPUT = "-"
SUFFIXES = (".csv", ".jsonl")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class PredictionTable:
    """Rows of predictions on their way into a text.

    A row says: image (its path or index), class_name (empty, or null in JSON, where names are not known), class_index
    (from 0), probability (of the class, at the exit), exit (from 1) and cost_UNIT, such as cost_macs.

    Args:
        file: where the rows go.
        unit: of the costs.
        classes: names in the order of the labels, or None.
        json_lines: one JSON object for each image; else CSV with a head line.
        resumable: the file, if another process can go on with it.
    """

    def __init__(
        self,
        file: TextIO,
        unit: str,
        classes: Sequence[str] | None = None,
        json_lines: bool = False,
        resumable: ResumableFile | None = None,
    ) -> None:
        self._file = file
        self._resumable = resumable
        self._classes = classes
        self._json_lines = json_lines
        self._columns = [
            "image",
            "class_name",
            "class_index",
            "probability",
            "exit",
            f"cost_{unit}" if unit else "cost",
        ]
        # A whole batch goes out as one text: what was written before stays whole rows, whatever happens.
        self._csv = csv.writer(file, lineterminator="\n")
        self._begun = json_lines or (resumable is not None and file.tell() > 0)

    @property
    def done(self) -> int:
        """How many images, from the first on, were done by a run before this one."""
        return self._resumable.done if self._resumable else 0

    @property
    def states(self) -> list[Any]:
        """What that run has given to `mark`."""
        return self._resumable.states if self._resumable else []

    def mark(self, done: int, state: Any) -> None:
        """Let a later run go on behind this many images, if it can; see `ResumableFile.mark`."""
        if self._resumable:
            self._resumable.mark(done, state)

    def begin(self) -> None:
        """Write the head line, if there is one and it is not written: it comes with the first rows, or without any."""
        if not self._begun:
            self._csv.writerow(self._columns)
            self._begun = True

    def write(self, names: Sequence[str], answers: Answers) -> None:
        """Add the rows of some images.

        Args:
            names: of the images, as many as there are answers.
            answers: what the engine says about them, with finite probabilities.
        """
        self.begin()
        labels = answers.labels.tolist()
        rows = zip(
            names,
            [None if self._classes is None else self._classes[label] for label in labels],
            labels,
            # The shortest decimals that are these float32 numbers.
            map(float, map(str, answers.confidences)),
            (answers.exits + 1).tolist(),
            map(_whole, answers.costs.tolist()),
            strict=True,
        )
        if self._json_lines:
            self._file.writelines(self._json(row) for row in rows)
        else:
            self._csv.writerows(rows)
        self._file.flush()

    def _json(self, row: tuple[Any, ...]) -> str:
        return json.dumps(dict(zip(self._columns, row, strict=True)), allow_nan=False) + "\n"


def check_output(output: str) -> None:
    """Refuse, before anything is computed, where predictions cannot be written.

    Raises:
        UserError: unless it is "-", or the name of a .csv or .jsonl file.
    """
    if output != STANDARD_OUTPUT and Path(output).suffix not in SUFFIXES:
        raise UserError(f"output={output} must end in .csv or .jsonl, or be - for standard output.")
    if Path(output).is_dir():
        raise UserError(f"output={output} is a folder; name the file in it, such as {Path(output, 'predictions.csv')}.")


@contextmanager
def open_table(
    output: str,
    unit: str,
    classes: Sequence[str] | None = None,
    origin: Origin | None = None,
    resume: bool = False,
) -> Iterator[PredictionTable]:
    """Open a table that is written to a file, which is there only when the block ends without an error.

    On standard output nothing is seen before the first rows, so that a block that fails before leaves it empty.

    Args:
        output: a .csv or .jsonl file, or "-": CSV on standard output, row by row.
        unit: of the costs.
        classes: names in the order of the labels, or None.
        origin: what decides the rows of a file; None: nothing but the arguments above.
        resume: go on with the rows of a run that did not end.

    Raises:
        UserError: if the file's name has another suffix; see also `resumable_file`.
        WriteError: if the system does not let us write.
    """
    check_output(output)
    try:
        if output == STANDARD_OUTPUT:
            accept_any_text(sys.stdout)
            table = PredictionTable(sys.stdout, unit, classes)
            yield table
            table.begin()
            return
        with resumable_file(output, origin or Origin({}, {}), resume, "images") as file:
            table = PredictionTable(file.text, unit, classes, output.endswith(".jsonl"), file)
            yield table
            table.begin()
    except OSError as error:
        # These errors name no file, or one beside the output that the user does not know.
        if error.errno in _FULL or error.filename in map(str, unfinished_files(output)):
            where = "Standard output" if output == STANDARD_OUTPUT else output
            raise WriteError(error.errno, error.strerror, where) from error
        raise


def _whole(cost: float) -> Any:
    """Return a count without a decimal point."""
    return int(cost) if cost.is_integer() else cost
