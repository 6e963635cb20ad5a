"""What must hold in a policy file for it to mean something, entry by entry."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any, TypeGuard

import numpy as np

from ranet.calibration.scores.checks import SCORES
from ranet.support.strict_json import shown

NEVER, ALWAYS = "never", "always"
ENTRIES = ("format", "version", "score", "thresholds", "temperatures", "metadata", "software", "checksum")
SHARES_SUM_WITHIN = 1e-6
COSTS_AGREE_WITHIN = 1e-9  # of the last exit's cost: a mean of costs is rounded

_LARGEST = float(np.finfo(np.float32).max)
Check = tuple[str, Callable[[Any, int], bool]]


def check_policy(content: Mapping[str, Any]) -> None:
    """Check the entries of a policy file, and those entries of its metadata that ranet knows; others may be there, too.

    Format, version and checksum are not looked into: `read_policy_file` has done that.

    Args:
        content: JSON values, as `parse_strict_json` gives them.

    Raises:
        ValueError: for the first entry that is wrong; the message is the middle of a sentence.

    Example:
        >>> check_policy({name: None for name in ENTRIES} | {"thresholds": [0.5, None]})
        Traceback (most recent call last):
        ValueError: thresholds must be a list with a number, "never" or "always" for ... the last, not [0.5, null]
    """
    missing = [name for name in ENTRIES if name not in content]
    if missing:
        raise ValueError(f"{missing[0]} is missing")
    unknown = sorted(set(content) - set(ENTRIES))
    if unknown:
        raise ValueError(f"{shown(unknown[0])} is no entry that ranet knows")
    thresholds = content["thresholds"]
    _check(content, {"thresholds": _THRESHOLDS}, 0)
    exits = len(thresholds) + 1
    _check(content, _POLICY, exits)
    metadata = content["metadata"]
    _check(metadata, _METADATA, exits, "metadata.")
    _check(metadata.get("network", {}), {"fingerprint": _TEXT}, exits, "metadata.network.")
    if "predicted" in metadata:
        _check_prediction(metadata["predicted"], metadata.get("cost_per_exit"), exits)


def _check_prediction(predicted: Mapping[str, Any], costs: list[float] | None, exits: int) -> None:
    """A promise is complete, and does not contradict itself."""
    where = "metadata.predicted."
    missing = [name for name in _PREDICTED if name not in predicted]
    if missing:
        raise ValueError(f"{where}{missing[0]} is missing")
    _check(predicted, _PREDICTED, exits, where)
    if (predicted["accuracy"] is None) != (predicted["accuracy_interval"] is None):
        raise ValueError(f"{where}accuracy and {where}accuracy_interval must both be null, or neither")
    if costs is not None:
        slack = COSTS_AGREE_WITHIN * costs[-1]
        if not costs[0] - slack <= predicted["cost"] <= costs[-1] + slack:
            between = (
                f"between the first and the last of metadata.cost_per_exit ({shown(costs[0])} and {shown(costs[-1])})"
            )
            raise ValueError(f"{where}cost must lie {between}, not be {shown(predicted['cost'])}")


def _check(content: Mapping[str, Any], checks: Mapping[str, Check], exits: int, where: str = "") -> None:
    """Check those entries that are there."""
    for name, (expected, holds) in checks.items():
        if name in content and not holds(content[name], exits):
            raise ValueError(f"{where}{name} must be {expected.format(exits=exits)}, not {shown(content[name])}")


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_fraction(value: Any, _: int = 0) -> bool:
    return _is_number(value) and 0 <= value <= 1


def _is_positive(value: Any, _: int = 0) -> bool:
    return _is_number(value) and value > 0


def _is_text(value: Any, _: int = 0) -> bool:
    return isinstance(value, str)


def _is_object(value: Any, _: int = 0) -> bool:
    return isinstance(value, dict)


def _is_threshold(value: Any) -> bool:
    # Thresholds are float32: what is beyond them would silently become "never".
    return value in (NEVER, ALWAYS) if isinstance(value, str) else _is_number(value) and abs(value) <= _LARGEST


def _is_thresholds(value: Any, _: int) -> bool:
    return isinstance(value, list) and all(_is_threshold(item) for item in value)


def _is_score(value: Any, _: int) -> bool:
    return value in SCORES


def _is_temperatures(value: Any, exits: int) -> bool:
    return value is None or (isinstance(value, list) and len(value) == exits and all(_is_positive(t) for t in value))


def _is_software(value: Any, _: int) -> bool:
    return isinstance(value, dict) and all(isinstance(version, str) for version in value.values())


def _is_exit(value: Any, exits: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < exits


def _is_exits(value: Any, exits: int) -> bool:
    if not isinstance(value, list) or not value or not all(_is_exit(item, exits) for item in value):
        return False
    return all(one < next_one for one, next_one in pairwise(value))


def _is_objects(value: Any, exits: int) -> bool:
    return isinstance(value, list) and len(value) == exits and all(map(_is_object, value))


def _is_positive_or_null(value: Any, _: int) -> bool:
    return value is None or _is_positive(value)


def _is_costs(value: Any, exits: int) -> bool:
    if not isinstance(value, list) or len(value) != exits or not all(_is_number(cost) for cost in value):
        return False
    return value[0] >= 0 and all(one < next_one for one, next_one in pairwise(value))


def _is_count(value: Any, _: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_cost(value: Any, _: int) -> bool:
    return _is_number(value) and value >= 0


def _is_interval(value: Any, _: int = 0) -> bool:
    if not isinstance(value, list) or len(value) != 2 or not all(_is_number(end) for end in value):
        return False
    return bool(0 <= value[0] <= value[1])


def _is_fraction_or_null(value: Any, _: int) -> bool:
    return value is None or _is_fraction(value)


def _is_interval_of_fractions_or_null(value: Any, _: int) -> bool:
    return value is None or (_is_interval(value) and value[1] <= 1)


def _is_level(value: Any, _: int) -> bool:
    return _is_number(value) and 0 < value < 1


def _is_shares(value: Any, exits: int) -> bool:
    if not isinstance(value, list) or len(value) != exits or not all(_is_fraction(share) for share in value):
        return False
    return abs(sum(value) - 1) <= SHARES_SUM_WITHIN


_OBJECT: Check = ("an object", _is_object)
_TEXT: Check = ("a text", _is_text)
_THRESHOLDS: Check = (
    f'a list with a number, "{NEVER}" or "{ALWAYS}" for each exit but the last',
    _is_thresholds,
)
_POLICY: dict[str, Check] = {
    "score": (f"one of {', '.join(SCORES)}", _is_score),
    "temperatures": ("a positive number for each of the {exits} exits, or null", _is_temperatures),
    "metadata": _OBJECT,
    "software": ("an object of versions", _is_software),
}
_METADATA: dict[str, Check] = {
    "policy": _TEXT,
    "ratio": ("a positive number or null", _is_positive_or_null),
    "unit": _TEXT,
    "budget": ("a positive number or null", _is_positive_or_null),
    "cost_per_exit": ("a cost for each of the {exits} exits, each more than the one before", _is_costs),
    "predicted": _OBJECT,
    "network": _OBJECT,
    "data": _OBJECT,
    "guarantee": _OBJECT,
    "deadline": ("a number of milliseconds", _is_positive),
    "exit_index": ("the index of one of the {exits} exits", _is_exit),
    "chosen": _TEXT,
    "instead_of": _OBJECT,
    "used_exits": ("a list of indices of the {exits} exits, each more than the one before", _is_exits),
    "score_distribution": ("edges and counts for each of the {exits} exits", _is_objects),
    "solved_with": ("an object of versions", _is_software),
}
_PREDICTED: dict[str, Check] = {
    "images": ("a whole number of at least 1", _is_count),
    "cost": ("a number of at least 0", _is_cost),
    "cost_interval": ("two numbers of at least 0, the lower first", _is_interval),
    "accuracy": ("a number from 0 to 1, or null", _is_fraction_or_null),
    "accuracy_interval": ("two numbers from 0 to 1, the lower first, or null", _is_interval_of_fractions_or_null),
    "level": ("a number between 0 and 1", _is_level),
    "exit_shares": ("a share for each of the {exits} exits, together 1", _is_shares),
}
