"""Policies for an engine or an export, given as one or several policies or files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ranet.calibration.policies.exit_policy import ExitPolicy, load_policy

GivenPolicies = ExitPolicy | str | Path | Sequence[ExitPolicy | str | Path]


def given_policies(given: GivenPolicies) -> list[ExitPolicy]:
    """Return the policies in the given order; read those given as files.

    Raises:
        UserError: if a file is missing, or is not a policy.

    Example:
        >>> given_policies(ExitPolicy((0.5,))) == given_policies([ExitPolicy((0.5,))])
        True
    """
    several = [given] if isinstance(given, ExitPolicy | str | Path) else list(given)
    return [each if isinstance(each, ExitPolicy) else load_policy(each) for each in several]
