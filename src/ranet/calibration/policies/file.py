"""Writing and reading policy files; `ranet.calibration.policies.schema` says what must stand in them."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

#: What the file of one policy is called, and the folder of several, where ranet chooses the name.
ONE_POLICY, SEVERAL_POLICIES = "policy.json", "policies"
FORMAT = "ranet exit policy"


def write_policy_file(path: str | Path, content: Mapping[str, Any]) -> None:
    """Write a policy file of version 2, whole or not at all.

    Args:
        path: where.
        content: "score", "thresholds" (K - 1 floats, infinite ones among them), "temperatures" (K, or None) and
            "metadata". The file has these, and

            - "format", "version" and "checksum", as every `Record`;
            - thresholds as numbers, "never" where nobody leaves (infinity) and "always" where everybody does (minus
              infinity), because JSON has no infinities;
            - "software": the versions that wrote it.

    Raises:
        UserError: for content that `read_policy_file` would refuse; nothing is written then.
    """
    from ranet.calibration.policies.schema import INFINITE, PolicyFile  # pydantic takes a while to import

    words = {number: word for word, number in INFINITE.items()}
    thresholds = [words.get(threshold, threshold) for threshold in content["thresholds"]]
    PolicyFile.write(path, {**content, "thresholds": thresholds, "software": software_versions()})


def read_policy_file(path: str | Path) -> dict[str, Any]:
    """Read what `write_policy_file` wrote: "score", "thresholds", "temperatures" and "metadata".

    A file that was edited and is still right is read, with a notice in the log.

    Raises:
        UserError: if the file is missing, is no text, no JSON, no policy, of another version, or says what no policy
            can.
    """
    from ranet.calibration.policies.schema import PolicyFile

    record = PolicyFile.read(path)
    return {name: getattr(record, name) for name in ("score", "thresholds", "temperatures", "metadata")}


def software_versions() -> dict[str, str]:
    """The versions of what runs."""
    return {**{name: _version(name) for name in ("ranet", "torch", "numpy")}, "python": platform.python_version()}


@cache
def _version(package: str) -> str:
    # Not asked of the package itself: to import PyTorch for this would take seconds.
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
