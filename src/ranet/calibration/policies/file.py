"""The policy file: strict JSON that says what it is, in which version, and whether anybody changed it."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from math import inf
from pathlib import Path
from typing import Any

from ranet.calibration.policies.schema import ALWAYS, NEVER, check_policy
from ranet.errors import UserError
from ranet.support.files import written_whole
from ranet.support.strict_json import canonical_json, parse_strict_json, plain, shown, strict_json

#: What the file of one policy is called, and the folder of several, where ranet chooses the name.
ONE_POLICY, SEVERAL_POLICIES = "policy.json", "policies"
FORMAT = "ranet exit policy"
VERSION = 2
_INFINITE = {NEVER: inf, ALWAYS: -inf}


def write_policy_file(path: str | Path, content: Mapping[str, Any]) -> None:
    """Write a policy file of version 2, whole or not at all.

    Args:
        path: where.
        content: "score", "thresholds" (K - 1 floats, infinite ones among them), "temperatures" (K, or None) and
            "metadata". The file has these, and

            - "format" and "version";
            - thresholds as numbers, "never" where nobody leaves (infinity) and "always" where everybody does (minus
              infinity), because JSON has no infinities;
            - "software": the versions that wrote it;
            - "checksum": SHA-256, in hexadecimal digits, of the canonical JSON of everything else (`canonical_json`).

    Raises:
        UserError: for content that `read_policy_file` would refuse; nothing is written then.
    """
    try:
        body = plain({"format": FORMAT, "version": VERSION, **content, "software": software_versions()})
        body["thresholds"] = [_written(threshold) for threshold in content["thresholds"]]
        text = strict_json({**body, "checksum": checksum(body)})
        check_policy(parse_strict_json(text))
    except (TypeError, ValueError, RecursionError) as error:
        raise UserError(f"The policy cannot be saved, because it could not be read again: {error}.") from error
    with written_whole(path) as partial:
        partial.write_bytes(text.encode())


def read_policy_file(path: str | Path) -> dict[str, Any]:
    """Read what `write_policy_file` wrote: "score", "thresholds", "temperatures" and "metadata".

    Raises:
        UserError: if the file is missing, is no text, no JSON, no policy, of another version, was changed after it was
            written, or says what no policy can.
    """
    where = f"The policy file {str(path)!r}"
    try:
        text = Path(path).read_bytes().decode("utf-8")
    except FileNotFoundError as error:
        raise UserError(f"{where} does not exist; ranet calibrate writes one.") from error
    except IsADirectoryError as error:
        raise UserError(f"{where} is a folder; name one of the policies in it.") from error
    except OSError as error:
        raise UserError(f"{where} cannot be read: {error.strerror or error}.") from error
    except ValueError as error:
        raise UserError(f"{where} is no text: solve it again with ranet calibrate.") from error
    try:
        content = parse_strict_json(text)
    except ValueError as error:
        raise UserError(
            f"{where} is not valid JSON ({error}), perhaps it was cut off: solve it again with ranet calibrate."
        ) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(f'{where} is no exit policy: it must be an object with "format": "{FORMAT}".')
    _check_version(content.get("version"), where)
    if content.get("checksum") != checksum({name: content[name] for name in content if name != "checksum"}):
        found = "its checksum does not fit" if "checksum" in content else "it has no checksum"
        raise UserError(
            f"{where} was changed after ranet wrote it ({found}): solve it again with ranet calibrate, or make the "
            "change in Python and save it with ExitPolicy.save."
        )
    try:
        check_policy(content)
    except ValueError as error:
        raise UserError(
            f"{where} holds no policy that can be followed ({error}): solve it again with ranet calibrate."
        ) from error
    thresholds = tuple(float(_INFINITE.get(value, value)) for value in content["thresholds"])
    return {**{name: content[name] for name in ("score", "temperatures", "metadata")}, "thresholds": thresholds}


def checksum(content: Mapping[str, Any]) -> str:
    """What a policy file with this content, which has no checksum yet, must have as "checksum".

    Example:
        >>> checksum({"version": 2, "format": "ranet exit policy"})[:16]
        '3e2b56ff891b4b2d'
    """
    return sha256(canonical_json(content).encode()).hexdigest()


def _check_version(found: object, where: str) -> None:
    if isinstance(found, int) and not isinstance(found, bool):
        if found > VERSION:
            written = f"was written by a newer ranet (version {shown(found)}; this one reads {VERSION})"
            raise UserError(f"{where} {written}: update ranet.")
        if found < VERSION:
            raise UserError(
                f"{where} has version {shown(found)} and this ranet reads {VERSION}: solve it again with ranet "
                "calibrate."
            )
        return
    raise UserError(
        f'{where} must have a whole number as "version", not {shown(found)}: solve it again with ranet calibrate.'
    )


def _written(threshold: float) -> float | str:
    if threshold == inf:
        return NEVER
    return ALWAYS if threshold == -inf else threshold


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
