"""Finished training runs on disk: their folders, options and scores."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from ranet.calibration.scores.exit_scores import ExitScores
from ranet.cost.table import CostTable, checked_costs
from ranet.errors import UserError

# Files of a run: ranet train writes the first two, the evaluation its folder with the report as the last file.
CONFIG, ENVIRONMENT, EVALUATION, REPORT = "config.yaml", "environment.json", "evaluation", "report.json"
# Sections that only the configuration of a training has.
_OF_A_TRAINING = {"trainer", "model", "data", "seed"}


@dataclass(frozen=True, eq=False)
class FinishedRun:
    """A run with its evaluation; K exits, N test images.

    Attributes:
        folder: folder of the run, as given or found.
        options: the whole configuration, {"optim.optimizer.lr": "0.1", ...}; see `flat_options`.
        test: scores on the test images.
        validation: scores on the validation images; None if the run has no validation split.
        costs: the costs of the network, in the requested unit.
        git_revision: revision of the training code; empty if unknown.
    """

    folder: Path
    options: Mapping[str, str]
    test: ExitScores
    validation: ExitScores | None
    costs: CostTable
    git_revision: str

    @property
    def seed(self) -> str:
        """The seed, with the seed of the data if it differs: the identity of a repetition."""
        seed, of_data = self.options["seed"], self.options.get("data.seed")
        return seed if of_data in (None, seed) else f"{seed} (data {of_data})"


class FoundRuns(NamedTuple):
    """Run folders in the order in which they were found, with a complete evaluation (for `read_run`) and without."""

    finished: tuple[Path, ...]
    unfinished: tuple[Path, ...]


def find_runs(folders: Sequence[str | Path]) -> FoundRuns:
    """Find training runs in the folders and their subfolders.

    Subfolders of a run are not searched: a run in them, such as the first of two phases, belongs to it. Hidden folders
    are not searched. Numbers in names sort as numbers, so job 10 of a sweep comes after job 9.

    Raises:
        UserError: if a folder does not exist, or a configuration cannot be read.
    """
    seen: set[Path] = set()
    found: list[Path] = []
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise UserError(f"There is no folder {folder} to look for runs in.")
        found += _search(folder, seen)
    finished = tuple(run for run in found if (run / EVALUATION / REPORT).is_file())
    return FoundRuns(finished, tuple(run for run in found if run not in finished))


def read_run(folder: Path, unit: str) -> FinishedRun:
    """Read a finished run, one of `FoundRuns.finished`, with costs in the unit "paper_ops" or "macs".

    Raises:
        UserError: if a file of the evaluation is missing or damaged, or the files are not of one network.
    """
    configuration = _configuration(folder)
    assert configuration is not None, "find_runs found it"
    evaluation = folder / EVALUATION
    try:
        test = ExitScores.load(evaluation / "scores_test.npz")
        path = evaluation / "scores_validation.npz"
        validation = ExitScores.load(path) if path.is_file() else None
        costs = _costs(_read_json(evaluation / "costs.json"), unit, test.num_exits)
        for scores in (test, validation or test):
            shape = (test.num_exits, len(scores.labels))
            if not scores.confidence.shape == scores.prediction.shape == scores.correct_top5.shape == shape:
                raise UserError(f"its scores are not all of {test.num_exits} exits and the same images.")
    except (UserError, KeyError, TypeError, ValueError) as error:
        reason = str(error).partition("; ")[0].rstrip(".")
        raise UserError(
            f"The evaluation in {evaluation} cannot be used: {reason}; make it again with {evaluate_command(folder)}."
        ) from error
    environment = folder / ENVIRONMENT
    revision = _read_json(environment).get("git_revision") if environment.is_file() else None
    return FinishedRun(folder, flat_options(configuration), test, validation, costs, str(revision or ""))


def _costs(content: Mapping[str, Any], unit: str, num_exits: int) -> CostTable:
    """Return the costs in the file that `CostProfile.save` writes, or an earlier ranet wrote."""
    tables = content.get("tables")
    if isinstance(tables, dict) and unit in tables:
        costs = CostTable(unit, tables[unit]["stages"], tables[unit]["parts"])
        checked_costs(costs.cumulative(), num_exits)
        return costs
    name = "lazy_macs" if unit == "macs" else unit  # what the engine executes
    return CostTable.of_exits(checked_costs(content.get(f"{name}_per_exit", ()), num_exits), unit)


def evaluate_command(folder: Path) -> str:
    """Return the command that evaluates a run."""
    return f"ranet evaluate checkpoint={folder} run={folder / EVALUATION}"


def flat_options(configuration: Mapping[Any, Any]) -> dict[str, str]:
    """Return a configuration as dotted names with values in YAML style; equal numbers give equal strings.

    Example:
        >>> flat_options({"optim": {"lr": 0.10, "nesterov": True}, "seed": 0, "groups": [1, None]})
        {'optim.lr': '0.1', 'optim.nesterov': 'true', 'seed': '0', 'groups': '[1, null]'}
    """
    options: dict[str, str] = {}
    for name, value in configuration.items():
        if isinstance(value, Mapping) and value:
            options |= {f"{name}.{rest}": text for rest, text in flat_options(value).items()}
        else:
            options[str(name)] = _text(value)
    return options


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:.12g}"
    if isinstance(value, list):
        return f"[{', '.join(map(_text, value))}]"
    return json.dumps(value)


def _search(folder: Path, seen: set[Path]) -> Iterator[Path]:
    """Yield the runs in the folder and its subfolders that were not seen before."""
    if folder.resolve() in seen:
        return
    seen.add(folder.resolve())
    if _configuration(folder) is not None:
        yield folder
        return
    for below in sorted(folder.iterdir(), key=_natural):
        if below.is_dir() and not below.name.startswith("."):
            yield from _search(below, seen)


def _natural(path: Path) -> list[tuple[int, str]]:
    """Return a key that sorts names with the numbers in them by value."""
    parts = re.split(r"(\d+)", path.name)
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]


def _configuration(folder: Path) -> Mapping[Any, Any] | None:
    """Return the configuration of the training in this folder; None if there was none."""
    path = folder / CONFIG
    if not path.is_file():
        return None
    try:
        content = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    except (YAMLError, OmegaConfBaseException, UnicodeDecodeError) as error:
        raise UserError(f"The configuration {path} cannot be read: {' '.join(str(error).split())}") from error
    return content if isinstance(content, dict) and content.keys() >= _OF_A_TRAINING else None


def _read_json(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise UserError(f"there is no {path.name}.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON.") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} is not a JSON object.")
    return content
