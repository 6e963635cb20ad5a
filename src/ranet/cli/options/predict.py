"""What ranet predict is asked for, checked before anything is read."""

from __future__ import annotations

from omegaconf import DictConfig

from ranet.cli.options.policy_files import read_policies
from ranet.cli.options.shared import check_checkpoint
from ranet.errors import UserError, unknown_name
from ranet.inference.choosing.open_backend import BACKENDS
from ranet.inference.predictions.file import STANDARD_OUTPUT, check_output
from ranet.inference.runtimes.backend import PRECISIONS
from ranet.support.numbers import require_count


def check_options(config: DictConfig) -> None:
    """Refuse what cannot be or has no effect."""
    if (config.checkpoint is None) == (config.engine is None):
        raise UserError("Say what answers: either checkpoint=RUN with policy=FILE, or engine=FOLDER of ranet export.")
    if config.images is None or not len(config.images):
        raise UserError("Say which images: images=FOLDER, a file, a list of files, or a NumPy array (.npy).")
    if config.engine is None and config.policy is None:
        raise UserError("A policy says which image leaves where: add policy=FILE; ranet calibrate solves one.")
    if config.engine is not None:
        for name, given in (
            ("model", config.model.name),
            ("data", "_target_" in config.data),
            ("device", config.device),
        ):
            if given:
                raise UserError(f"{name}= goes with checkpoint= and has no effect on engine=; remove it.")
    for name, known in (("backend", (*BACKENDS, "auto")), ("precision", PRECISIONS)):
        if config[name] not in known:
            raise unknown_name(name, str(config[name]), known)
    for name in ("batch_size", "threads", "max_exit"):
        if config[name] is not None or name == "batch_size":
            require_count(name, config[name])
    if config.output is None:
        raise UserError("output= must be a .csv or .jsonl file, or - for standard output.")
    check_output(config.output)
    if config.resume and config.output == STANDARD_OUTPUT:
        raise UserError("resume=true goes on with a file; name it by output=FILE.csv or output=FILE.jsonl.")
    check_checkpoint(config)
    if config.policy is not None:
        read_policies(config.policy)
