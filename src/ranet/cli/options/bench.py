"""Check of the options of ranet bench, before anything is read."""

from __future__ import annotations

from omegaconf import DictConfig

from ranet.benchmark.results import Setting, all_settings
from ranet.cli.options.shared import check_checkpoint, check_seed, has_network, is_number, listed, read_policies
from ranet.errors import UserError, require_known
from ranet.inference.choosing.open_backend import BACKENDS, installed_backends
from ranet.inference.runtimes.backend import PRECISIONS
from ranet.support.extras import require
from ranet.support.numbers import is_count, require_count

_EXTRAS = {"onnxruntime": "onnx", "openvino": "openvino"}


def check_options(config: DictConfig) -> None:
    """Refuse options that are invalid or have no effect."""
    if not has_network(config):
        if config.model.name is None:
            raise UserError("Say what to measure: checkpoint=RUN, or model=NAME for a network with random weights.")
        for name, given in (("data", "_target_" in config.data), ("cache", config.cache)):
            if given:
                raise UserError(f"{name}= has no effect on random weights; add checkpoint=RUN, or remove it.")
    if config.policy is not None and config.budget is not None:
        raise UserError("Say the policies or their budgets, not both policy= and budget=.")
    for name in ("images_limit", "rounds", *([] if config.threads is None else ["threads"])):
        require_count(name, config[name])
    check_seed(config.seed)
    if config.seconds is not None and not (is_number(config.seconds) and config.seconds > 0):
        raise UserError(f"seconds={config.seconds} must be a positive number, or null.")
    for precision in listed(config.precisions):
        require_known("precision", precision, PRECISIONS)
    for backend in [] if config.backends is None else listed(config.backends):
        require_known("backend", backend, BACKENDS)
    for size in listed(config.batch_sizes):
        if not is_count(size):
            raise UserError(f"batch_sizes={size} must be an integer of at least 1, or a list of them.")
    rival_names(config)
    check_checkpoint(config.checkpoint)
    if config.policy is not None:
        read_policies(config.policy)


def settings_of(config: DictConfig, on_gpu: bool) -> tuple[list[Setting], list[str]]:
    """Return every possible combination of backends, precisions and batch sizes, and sentences on what is left out.

    Raises:
        UserError: if a package is missing, or no combination is left.
    """
    precisions = listed(config.precisions)
    if config.backends is None:
        backends = installed_backends("float32", exported=False, on_gpu=on_gpu)
    else:
        backends = listed(config.backends)
    for backend in backends:
        if backend != "torch":
            for package in (backend, "onnx"):
                require(package, _EXTRAS[backend], f"The {backend} backend")
    settings = all_settings(backends, precisions, listed(config.batch_sizes))
    if not settings:
        raise UserError(
            "There is nothing to measure: name at least one backend, precision and batch size, and for onnxruntime "
            "precisions=float32."
        )
    left_out = "onnxruntime" in backends and "bfloat16" in precisions
    return settings, ["ONNX Runtime does not compute in bfloat16 and is left out there."] if left_out else []


def rival_names(config: DictConfig) -> list[str]:
    """Return the names of the rivals; null, or an empty list, means none.

    Raises:
        UserError: for null in a list.
    """
    given = [] if config.rivals is None else listed(config.rivals)
    if None in given:
        raise UserError("rivals=[null] names no network; leave null out of the list.")
    return [str(one) for one in given]
