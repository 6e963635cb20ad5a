"""What policy files are called, and what wrote them; `ranet.calibration.policies.schema` says what is in them."""

from __future__ import annotations

import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version

#: What the file of one policy is called, and the folder of several, where ranet chooses the name.
ONE_POLICY, SEVERAL_POLICIES = "policy.json", "policies"
FORMAT = "ranet exit policy"


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
