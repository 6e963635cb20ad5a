"""Checks of the options of verbs that have few, before anything is read."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from ranet.calibration.policies.exit_policy import load_policy
from ranet.cli.options.shared import (
    UNITS,
    check_checkpoint,
    check_seed,
    check_source,
    has_network,
    listed,
    read_policies,
)
from ranet.errors import UserError, require_known
from ranet.inference.choosing.open_backend import BACKENDS
from ranet.inference.predictions.file import STANDARD_OUTPUT, check_output
from ranet.inference.runtimes.backend import PRECISIONS
from ranet.support.numbers import require_count
from ranet.support.shapes import checked_image_size


def _check(config: DictConfig) -> None:
    if config.output is not None and not config.output.lower().endswith(".csv"):
        raise UserError(f"output={config.output} must be a .csv file.")


def _train(config: DictConfig) -> None:
    require_known("unit", config.unit, UNITS)
    check_seed(config.seed)
    if config.weights is not None and config.technique.get("first_stage_run") is not None:
        raise UserError("technique.first_stage_run has the weights to start from; remove weights=.")


def _evaluate(config: DictConfig) -> None:
    sentence = "Say what to evaluate: either checkpoint=RUN, or scores=FILE.npz with policy=FILE."
    check_source(config, "scores", sentence, "images", "cache", "model", "data")
    if config.scores is not None and config.policy is None:
        raise UserError("scores= are evaluated under a policy: add policy=FILE.")
    if config.unit is not None:
        require_known("unit", config.unit, UNITS)
    if config.images is not None and config.policy is None:
        raise UserError("images= measures drift and needs policy=FILE.")
    if config.policy is not None and config.unit is not None:
        raise UserError("The policy says in which unit its costs are; remove unit=.")
    if config.images is not None and config.cache is not None:
        raise UserError("Images without labels are scored anew each time; remove cache=.")
    check_checkpoint(config.checkpoint)
    if config.policy is not None:
        load_policy(config.policy)


def _export(config: DictConfig) -> None:
    for name, what, given in (
        ("checkpoint", "RUN", has_network(config)),
        ("policy", "FILE", config.policy is not None),
        ("output", "FOLDER", config.output is not None),
    ):
        if not given:
            raise UserError(f"Say what to export where: checkpoint=RUN policy=FILE output=FOLDER; add {name}={what}.")
    check_checkpoint(config.checkpoint)
    read_policies(config.policy)


def _predict(config: DictConfig) -> None:
    sentence = "Say what answers: either checkpoint=RUN with policy=FILE, or engine=FOLDER of ranet export."
    check_source(config, "engine", sentence, "model", "data", "device")
    if config.images is None or not len(config.images):
        raise UserError("Say which images: images=FOLDER, a file, a list of files, or a NumPy array (.npy).")
    if config.engine is None and config.policy is None:
        raise UserError("A policy says which image leaves where: add policy=FILE; ranet calibrate solves one.")
    require_known("backend", config.backend, (*BACKENDS, "auto"))
    require_known("precision", config.precision, PRECISIONS)
    for name in ("batch_size", "threads", "max_exit"):
        if config[name] is not None or name == "batch_size":
            require_count(name, config[name])
    if config.output is None:
        raise UserError("output= must be a .csv or .jsonl file, or - for standard output.")
    check_output(config.output)
    if config.resume and config.output == STANDARD_OUTPUT:
        raise UserError("resume=true continues a file; name it with output=FILE.csv or output=FILE.jsonl.")
    check_checkpoint(config.checkpoint)
    if config.policy is not None:
        read_policies(config.policy)


def _compare(config: DictConfig) -> None:
    require_known("unit", config.unit, UNITS)
    if isinstance(config.budgets, bool) or not isinstance(config.budgets, int) or config.budgets < 2:
        raise UserError(f"budgets={config.budgets} must be an integer of at least 2.")
    for folder in listed(config.runs):
        if not Path(str(folder)).is_dir():
            raise UserError(f"There is no folder {folder} to look for runs in.")


def _costs(config: DictConfig) -> None:
    if config.model.name is None:
        raise UserError("model=as_trained goes with a checkpoint; choose the network with model=NAME.")
    if config.image_size is not None:
        checked_image_size(config.image_size)


CHECKS = {
    "check": _check,
    "train": _train,
    "evaluate": _evaluate,
    "export": _export,
    "predict": _predict,
    "compare": _compare,
    "costs": _costs,
}
