"""Schema of the manifest of an exported folder."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeGuard

from ranet.inference.stages.chains import reachable_cuts
from ranet.inference.stages.fused_stages import FusedStage
from ranet.models.specs import checked_image_size, image_shape
from ranet.support.strict_json import shown

ENTRIES = (
    "format",
    "version",
    "network",
    "stages",
    "policies",
    "preprocessing",
    "golden",
    "classes",
    "data",
    "costs",
    "software",
    "checksum",
)
UNITS = ("macs", "paper_ops", "lazy_macs", "lazy_paper_ops")
"""Units in which the operations of a network are counted; `ranet.cost.CostProfile` says what they are."""

#: A file in the folder, or in a folder in it; never one elsewhere.
_FILE = re.compile(r"(?:[\w-][\w.-]*/)?[\w-][\w.-]*", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}")
Check = tuple[str, Callable[[Any], bool]]


def check_manifest(content: Mapping[str, Any]) -> None:
    """Check the entries of a manifest. Format, version and checksum are not looked into: who reads it has done that.

    Args:
        content: JSON values, as `ranet.support.strict_json.parse_strict_json` gives them.

    Raises:
        ValueError: for the first entry that is wrong; the message is the middle of a sentence.

    Example:
        >>> check_manifest({name: None for name in ENTRIES})
        Traceback (most recent call last):
        ValueError: network must be an object, not null
    """
    _check_entries(content, dict.fromkeys(ENTRIES, _ANYTHING), "")
    network = content["network"]
    _check_entries(network, _NETWORK, "network")
    num_exits = network["num_exits"]
    shape = image_shape(checked_image_size(network["image_size"]), network["in_channels"])
    _check_stages(content["stages"], num_exits, list(shape))
    _check_entry(content, "policies", ("a list of at least one file of the folder, each once", _is_files))
    _check_entry(content, "preprocessing", ("an object or null", lambda value: value is None or _is_object(value)))
    if content["golden"] is not None:
        _check_entries(content["golden"], _GOLDEN, "golden")
    if content["data"] is not None:
        _check_entries(content["data"], _DATA, "data")
    classes = content["classes"]
    if classes is not None and not (_is_texts(classes) and len(classes) == network["num_classes"]):
        raise ValueError(f"classes must be a name for each of the {network['num_classes']} classes, or null")
    _check_entries(content["costs"], dict.fromkeys(UNITS, _ANYTHING), "costs")
    for unit in UNITS:
        counts = (f"a count for each of the {num_exits} exits", lambda value: _is_counts(value, num_exits))
        _check_entries(content["costs"][unit], {"backbone": counts, "heads": counts}, f"costs.{unit}")
    _check_entry(content, "software", ("an object of texts", _is_object_of_texts))


def _check_stages(stages: Any, num_exits: int, image: list[int]) -> None:
    """Each stage is one, they go together, and some chain of them begins at the images."""
    if not isinstance(stages, list) or not stages:
        raise ValueError(f"stages must be a list of at least one stage, not {shown(stages)}")
    states: dict[int, Any] = {-1: [image]}
    for i, stage in enumerate(stages):
        where = f"stages[{i}]"
        _check_entries(stage, _STAGE, where)
        first, last = stage["first"], stage["last"]
        if not first <= last < num_exits:
            raise ValueError(f"{where} must run from one of the {num_exits} exits to the same or a later one")
        names = [tensor["name"] for tensor in stage["before"]]
        if not set(stage["inputs"]) <= set(names):
            raise ValueError(f"{where}.inputs must be some of the names in {where}.before")
        if bool(stage["after"]) != (last < num_exits - 1):
            raise ValueError(f"{where}.after must be empty after the last exit and nowhere else")
        if first == 0 and [tensor["shape"] for tensor in stage["before"]] != states[-1]:
            raise ValueError(f"{where}.before must be the images, {shown(states[-1][0])}")
        for cut, state in ((first - 1, stage["before"]), (last, stage["after"])):
            if cut >= 0 and states.setdefault(cut, state) != state:
                raise ValueError(f"stages that meet behind exit {cut + 1} must have the same state there")
    for name in ("file", "stage"):
        each = [(stage["first"], stage["last"]) if name == "stage" else stage["file"] for stage in stages]
        if len(set(each)) < len(each):
            raise ValueError(f"stages must not have the same {name} twice")
    if not reachable_cuts([FusedStage(stage["first"], stage["last"]) for stage in stages]):
        raise ValueError("stages must have one that starts at the images")


def _check_entries(content: Any, checks: Mapping[str, Check], where: str) -> None:
    """Check that it is an object with these entries, and no others."""
    if not _is_object(content):
        raise ValueError(f"{where} must be an object, not {shown(content)}")
    within = f"{where}." if where else ""
    missing = [name for name in checks if name not in content]
    if missing:
        raise ValueError(f"{within}{missing[0]} is missing")
    unknown = sorted(set(content) - set(checks))
    if unknown:
        raise ValueError(f"{within}{unknown[0]} is no entry that ranet knows")
    for name, check in checks.items():
        _check_entry(content, name, check, within)


def _check_entry(content: Mapping[str, Any], name: str, check: Check, within: str = "") -> None:
    expected, holds = check
    if not holds(content[name]):
        raise ValueError(f"{within}{name} must be {expected}, not {shown(content[name])}")


def _is_whole(value: Any, least: int) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_count(value: Any) -> bool:
    return _is_whole(value, 0)


def _is_image_size(value: Any) -> bool:
    return _is_size(value) or (isinstance(value, list) and len(value) == 2 and all(map(_is_size, value)))


def _is_size(value: Any) -> bool:
    return _is_whole(value, 1)


def _is_counts(value: Any, num_exits: int) -> bool:
    return isinstance(value, list) and len(value) == num_exits and all(map(_is_count, value))


def _is_object(value: Any) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _is_object_of_texts(value: Any) -> bool:
    return _is_object(value) and _is_texts([*value.values()])


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_name, value)) and len(set(value)) == len(value)


def _is_file(value: Any) -> bool:
    return isinstance(value, str) and _FILE.fullmatch(value) is not None


def _is_files(value: Any) -> bool:
    return _is_names(value) and all(map(_is_file, value))


def _is_sha256(value: Any) -> bool:
    return isinstance(value, str) and _SHA256.fullmatch(value) is not None


def _is_tensor(value: Any) -> bool:
    if not _is_object(value) or set(value) != {"name", "shape"} or not _is_name(value["name"]):
        return False
    return isinstance(value["shape"], list) and all(map(_is_size, value["shape"]))


def _is_state(value: Any) -> bool:
    if not isinstance(value, list) or not all(map(_is_tensor, value)):
        return False
    return len({tensor["name"] for tensor in value}) == len(value)


_ANYTHING: Check = ("anything", lambda _: True)
_TENSORS = "a list of tensors, each with its own name and its shape without the batch"
_NETWORK: dict[str, Check] = {
    "num_exits": ("a whole number of at least 1", _is_size),
    "num_classes": ("a whole number of at least 1", _is_size),
    "image_size": ("a whole number of pixels, or height and width", _is_image_size),
    "in_channels": ("a whole number of at least 1", _is_size),
    "heads_can_be_skipped": ("true or false", lambda value: isinstance(value, bool)),
    "fingerprint": ("a text", _is_name),
}
_GOLDEN: dict[str, Check] = dict.fromkeys(("picture", "arrays"), ("a file of the folder", _is_file))
_DATA: dict[str, Check] = {
    "name": ("a name", _is_name),
    "classes": ("a list of texts", _is_texts),
    "digests": ("an object of texts", _is_object_of_texts),
}
_STAGE: dict[str, Check] = {
    "file": ("a file of the folder", _is_file),
    "bytes": ("a whole number of at least 1", _is_size),
    "sha256": ("64 hexadecimal digits", _is_sha256),
    "first": ("the index of an exit", _is_count),
    "last": ("the index of an exit", _is_count),
    "before": (_TENSORS, lambda value: _is_state(value) and bool(value)),
    "inputs": ("a list of names, each once", _is_names),
    "logits": ("a name", _is_name),
    "after": (_TENSORS, _is_state),
}
