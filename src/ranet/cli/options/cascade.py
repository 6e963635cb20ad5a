"""Check of the options of ranet cascade, before anything is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf

from ranet.calibration.goals import BudgetAmount
from ranet.cli.options.calibrate import budget_amounts
from ranet.cli.options.shared import is_number, listed
from ranet.errors import UserError, require_known
from ranet.images.preprocessing import Preprocessing
from ranet.inference.choosing.open_backend import BACKENDS
from ranet.inference.runtimes.backend import PRECISIONS
from ranet.support.numbers import require_count

COMBINES = ("last", "mean")
SPLITS = ("validation", "test")
UNITS = ("macs", "ms")
_MEASURED = ("batch_size", "backend", "precision", "threads")


def check_options(config: DictConfig) -> None:
    """Refuse options that are invalid or have no effect."""
    if (config.candidates is None) == (config.scores is None):
        raise UserError("Say what to choose from: either candidates=[RUN,NAME:WEIGHTS,...], or scores=[FILE.npz,...].")
    name = "scores" if config.candidates is None else "candidates"
    given = candidates_of(config) if name == "candidates" else listed(config[name])
    if len(given) < 2:
        raise UserError(f"{name}={config[name]} must be a list of two or more: a cascade has two members or more.")
    for combine in listed(config.combine):
        require_known("combine", str(combine), COMBINES)
    require_known("split", config.split, SPLITS)
    require_count("most_members", config.most_members)
    if config.most_members < 2:
        raise UserError("most_members=1 compares no cascades; it must be 2 or more.")
    budget_of(config)
    if config.scores is not None:
        _check_scores(config, len(given))
        return
    if config.cost is not None:
        raise UserError("cost= is for scores=; the costs of candidates are counted or measured.")
    require_known("unit", config.unit or "macs", UNITS)
    for option in _MEASURED:
        if config[option] is not None and config.unit != "ms":
            raise UserError(f"{option}={config[option]} has no effect without unit=ms; remove it.")
    require_known("backend", config.backend or "auto", (*BACKENDS, "auto"))
    require_known("precision", config.precision or "float32", PRECISIONS)
    for option in ("batch_size", "threads"):
        if config[option] is not None:
            require_count(option, config[option])
    for candidate in given:
        if candidate.network is None and not Path(candidate.source).exists():
            raise UserError(f"There is no run folder or checkpoint file {candidate.source}; or write NAME:WEIGHTS.")
        if candidate.network is not None and "_target_" not in config.data:
            raise UserError(f"{candidate} does not say what it was trained on; add data=cifar10 or another data set.")


def budget_of(config: DictConfig) -> BudgetAmount | None:
    """Return the budget; None if the frontier alone is asked for.

    Raises:
        UserError: for anything but one number or share.
    """
    if config.budget is None:
        return None
    amounts = budget_amounts(config.budget)
    if amounts is None or len(amounts) != 1:
        raise UserError(f"budget={config.budget} must be one number such as 40e6, or a share such as 40%.")
    return amounts[0]


class CandidateName(NamedTuple):
    """A classifier as the user names it.

    Attributes:
        network: name of the network; None for a run.
        source: its weights, or the run.
        preprocessing: options of `Preprocessing` that differ from those of the data or the package.
    """

    network: str | None
    source: str
    preprocessing: Mapping[str, Any] = {}

    def __str__(self) -> str:
        """Return what stands in tables, where it is the only one of this name."""
        if self.network is None:
            return Path(self.source).name
        size = self.preprocessing.get("image_size")
        return self.network if size is None else f"{self.network} at {size}"


def candidates_of(config: DictConfig) -> list[CandidateName]:
    """Return the candidates.

    Raises:
        UserError: if one is neither a path, NAME:WEIGHTS nor a dictionary of the right entries.
    """
    found = []
    for candidate in config.candidates if OmegaConf.is_list(config.candidates) else [config.candidates]:
        if not OmegaConf.is_dict(candidate):
            found.append(_named(str(candidate)))
            continue
        options = {str(key): value for key, value in OmegaConf.to_container(candidate).items()}  # type: ignore[union-attr]
        known = ("network", "weights", *(each.name for each in fields(Preprocessing)))
        for option in options:
            require_known("entry of a candidate", option, known)
        if not {"network", "weights"} <= {*options}:
            raise UserError(f"The candidate {options} must have the entries network and weights.")
        name, source = str(options.pop("network")), str(options.pop("weights"))
        found.append(CandidateName(name, source, options))
    return found


def _named(candidate: str) -> CandidateName:
    """Return a candidate written as RUN or NAME:WEIGHTS.

    Example:
        >>> _named("resnet20_cifar:weights/resnet20.safetensors")[:2], _named("runs/a")[:2]
        (('resnet20_cifar', 'weights/resnet20.safetensors'), (None, 'runs/a'))
    """
    name, colon, weights = candidate.partition(":")
    if colon and name and weights and "/" not in name and not Path(candidate).exists():
        return CandidateName(name, weights)
    return CandidateName(None, candidate)


def _check_scores(config: DictConfig, count: int) -> None:
    for option in ("data", *_MEASURED, "cache"):
        if "_target_" in config.data if option == "data" else config[option] is not None:
            raise UserError(f"{option}= goes with candidates= and has no effect on scores=; remove it.")
    if config.cost is None or not OmegaConf.is_list(config.cost) or len(config.cost) != count:
        raise UserError(
            f"Scores do not say what classifiers cost: add cost=[...] with a number for each of the {count}."
        )
    for cost in config.cost:
        if not is_number(cost) or not cost > 0:
            raise UserError(f"cost={list(config.cost)} must be positive numbers.")
    for file in config.scores:
        if not Path(str(file)).is_file():
            raise UserError(f"There is no score file {file}.")
