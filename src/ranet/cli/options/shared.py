"""Options that several verbs share: numbers, shares, lists, policies, and the trained network."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeGuard

from omegaconf import DictConfig, OmegaConf

from ranet.calibration.policies.exit_policy import ONE_POLICY, SEVERAL_POLICIES, ExitPolicy, load_policy
from ranet.errors import UserError

#: Units that are counted, not measured.
UNITS = ("macs", "paper_ops")


def is_number(value: object) -> TypeGuard[int | float]:
    """Return whether a value is a number that a float can hold (an int may be too large)."""
    return isinstance(value, float) or (isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1e300)


def parse_share(asked: object) -> float | None:
    """Return the number of a share; None for anything else.

    Example:
        >>> parse_share("50%"), parse_share("half%"), parse_share(50)
        (0.5, None, None)
    """
    if not isinstance(asked, str) or not asked.endswith("%"):
        return None
    try:
        return float(asked.removesuffix("%")) / 100
    except ValueError:
        return None


def listed(value: Any) -> list[Any]:
    """Return a list without duplicates, also for a single value."""
    return list(dict.fromkeys(value)) if OmegaConf.is_list(value) else [value]


def check_seed(seed: Any) -> None:
    """Refuse a seed that PyTorch or NumPy does not accept."""
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**32:
        raise UserError(f"seed={seed} must be an integer from 0 to {2**32 - 1}.")


def has_network(config: DictConfig) -> bool:
    """Return whether the options name a trained network: ``checkpoint``, or ``weights`` with ``model`` and ``data``.

    Raises:
        UserError: if both are given, or weights without the network and data that they are for.
    """
    if config.weights is None:
        return config.checkpoint is not None
    if config.checkpoint is not None:
        raise UserError("Say either checkpoint= or weights=, not both.")
    for name, given in (("model", config.model.name is not None), ("data", "_target_" in config.data)):
        if not given:
            raise UserError(f"weights= alone do not say which {name} they are for; add {name}=NAME.")
    return True


def check_source(config: DictConfig, instead: str, sentence: str, *names: str) -> None:
    """Refuse options with this sentence unless they name either a trained network or what is used instead of one.

    The options of the given names have no effect on what is used instead, and are refused beside it.
    """
    if has_network(config) == (config[instead] is not None):
        raise UserError(sentence)
    groups = {"model": config.model.name is not None, "data": "_target_" in config.data}
    for name in names if config[instead] is not None else ():
        if groups[name] if name in groups else config[name]:
            raise UserError(f"{name}= goes with checkpoint= and has no effect on {instead}=; remove it.")


def check_checkpoint(checkpoint: str | None) -> None:
    """Refuse a checkpoint that does not exist, before PyTorch is imported to read it."""
    if checkpoint is not None and not Path(checkpoint).exists():
        raise UserError(f"There is no run folder or checkpoint file {Path(checkpoint)}.")


def read_policies(given: Any) -> list[ExitPolicy]:
    """Load policies: a file, a folder of several (policy_*.json) or of a run of ``ranet calibrate``; or a list of them.

    Raises:
        UserError: if there is no policy, or one that cannot be used.
    """
    names = [str(name) for name in given] if OmegaConf.is_list(given) else [str(given)]
    if not names:
        raise UserError("policy=[] names no policy; give the file of one, or leave it out.")
    return [load_policy(path) for name in names for path in _policy_files(Path(name))]


def _policy_files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    if (path / ONE_POLICY).is_file():
        return [path / ONE_POLICY]
    for folder in (path, path / SEVERAL_POLICIES):
        if found := sorted(folder.glob("policy_*.json")):
            return found
    raise UserError(f"The folder {path} holds no policy ({ONE_POLICY} or policy_*.json); ranet calibrate writes them.")
