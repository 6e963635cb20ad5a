"""Check of the options of ranet predict, before anything is read."""

from __future__ import annotations

from omegaconf import DictConfig

from ranet.cli.options.policy_files import read_policies
from ranet.cli.options.shared import check_checkpoint, check_without_checkpoint, has_network
from ranet.errors import UserError, require_known
from ranet.inference.choosing.open_backend import BACKENDS
from ranet.inference.predictions.file import STANDARD_OUTPUT, check_output
from ranet.inference.runtimes.backend import PRECISIONS
from ranet.support.numbers import require_count


def check_options(config: DictConfig) -> None:
    """Refuse options that are invalid or have no effect."""
    if has_network(config) == (config.engine is not None):
        raise UserError("Say what answers: either checkpoint=RUN with policy=FILE, or engine=FOLDER of ranet export.")
    if config.images is None or not len(config.images):
        raise UserError("Say which images: images=FOLDER, a file, a list of files, or a NumPy array (.npy).")
    if config.engine is None and config.policy is None:
        raise UserError("A policy says which image leaves where: add policy=FILE; ranet calibrate solves one.")
    if config.engine is not None:
        check_without_checkpoint(config, "engine", "model", "data", "device")
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
    check_checkpoint(config)
    if config.policy is not None:
        read_policies(config.policy)
