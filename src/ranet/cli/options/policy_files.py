"""The policies of a command: one file, a list of files, or a folder of ranet calibrate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from ranet.calibration.policies.exit_policy import ONE_POLICY, SEVERAL_POLICIES, ExitPolicy, load_policy
from ranet.errors import UserError


def read_policies(given: Any) -> list[ExitPolicy]:
    """Load the policies of the option ``policy``.

    Args:
        given: a policy file; a folder of several (policy_*.json) or of a run of ``ranet calibrate``; a list of these.

    Raises:
        UserError: if there is no policy, or one that cannot be used.
    """
    names = [str(name) for name in given] if OmegaConf.is_list(given) else [str(given)]
    if not names:
        raise UserError("policy=[] names no policy; give the file of one, or leave it out.")
    return [load_policy(path) for name in names for path in _files(Path(name))]


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    if (path / ONE_POLICY).is_file():
        return [path / ONE_POLICY]
    for folder in (path, path / SEVERAL_POLICIES):
        if found := sorted(folder.glob("policy_*.json")):
            return found
    raise UserError(f"The folder {path} holds no policy ({ONE_POLICY} or policy_*.json); ranet calibrate writes them.")
