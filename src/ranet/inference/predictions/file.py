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
    """Rows of predictions on their way into a text file.

    The columns are image (its path or index), class_name (empty, or null in JSON, where names are not known),
    class_index (from 0), probability (of the class, at the exit), exit (from 1) and cost_UNIT, such as cost_macs.

    They are CSV with a head line, or JSON lines. The classes are names in the order of the labels. Without a resumable
    file no other process can go on.

    Attributes:
        done: number of images, from the first on, that an earlier run answered.
        states: what that run has given to `mark`.
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
        self._columns = ["image", "class_name", "class_index", "probability", "exit", "cost"]
        if unit:
            self._columns[-1] = f"cost_{unit}"
        # A whole batch goes out at once: what was written before stays whole rows, whatever happens.
        self._csv = csv.writer(file, lineterminator="\n")
        self._begun = json_lines or (resumable is not None and file.tell() > 0)
        self.done, self.states = (resumable.done, [*resumable.states]) if resumable else (0, [])

    def mark(self, done: int, state: Any) -> None:
        """Let a later run go on behind this many images, if it can; see `ResumableFile.mark`."""
        if self._resumable:
            self._resumable.mark(done, state)

    def begin(self) -> None:
        """Write the head line, unless it is written, or JSON has none."""
        if not self._begun:
            self._csv.writerow(self._columns)
            self._begun = True

    def write(self, names: Sequence[str], answers: Answers) -> None:
        """Add the rows of images with these names and answers, whose probabilities are finite."""
        self.begin()
        labels = answers.labels.tolist()
        rows = zip(
            names,
            [None if self._classes is None else self._classes[label] for label in labels],
            labels,
            # The shortest decimals that are these float32 numbers.
            map(float, map(str, answers.confidences)),
            (answers.exits + 1).tolist(),
            (int(cost) if cost.is_integer() else cost for cost in answers.costs.tolist()),  # counts without a point
            strict=True,
        )
        if self._json_lines:
            objects = (dict(zip(self._columns, row, strict=True)) for row in rows)
            self._file.writelines(json.dumps(one, allow_nan=False) + "\n" for one in objects)
        else:
            self._csv.writerows(rows)
        self._file.flush()


def check_output(output: str) -> None:
    """Raise a UserError unless the output is "-", or the name of a .csv or .jsonl file."""
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

    The output is a .csv or .jsonl file, or "-": CSV on standard output, row by row. There nothing is seen before the
    first rows, so that a block that fails before leaves it empty. Origin and resume are those of `resumable_file`.

    Raises:
        UserError: as `resumable_file`.
        WriteError: if the system does not let us write.
    """
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
