"""JSON that every reader accepts: without infinities and NaN, which Python writes and reads."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np

DEEPEST = 64  # far more than any file of ours, far less than what Python can walk


def plain(value: Any) -> Any:
    """Return the value in JSON's types: arrays become lists, NumPy scalars Python's, infinities and NaN become None.

    Example:
        >>> plain({"share": np.float32(0.5), "accuracy": (1.0, float("nan"))})
        {'share': 0.5, 'accuracy': [1.0, None]}
    """
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def strict_json(value: Any) -> str:
    """Return the value as indented JSON that ends in a newline; floats keep every bit.

    Example:
        >>> strict_json([1.5, float("inf")]).split()
        ['[', '1.5,', 'null', ']']
    """
    text = json.dumps(plain(value), indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    # Half of a surrogate pair (a file name that is not UTF-8) has no UTF-8; as a backslash escape it is JSON.
    return text.encode("utf-8", errors="backslashreplace").decode("utf-8")


def canonical_json(value: Any) -> str:
    r"""Return the canonical JSON of a value: sorted keys, no spaces, ASCII, numbers as Python writes them.

    Example:
        >>> canonical_json({"b": [1, 0.5], "a": "ö"})
        '{"a":"\\u00f6","b":[1,0.5]}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def parse_strict_json(text: str) -> Any:
    """Return the value of a JSON text.

    Raises:
        ValueError: if it is not JSON, or readers understand it differently: a key occurs twice in an object, NaN and
            infinities, numbers beyond the range of a double, more than `DEEPEST` levels. The message ends a sentence.

    Example:
        >>> parse_strict_json('{"a": 1, "a": 2}')
        Traceback (most recent call last):
        ValueError: the key "a" occurs twice in one object
    """
    try:
        value = json.loads(
            text, object_pairs_hook=_object, parse_float=_float, parse_int=_whole, parse_constant=_refuse
        )
    except json.JSONDecodeError as error:
        what = error.msg[:1].lower() + error.msg[1:].rstrip(": ").removesuffix(" at")
        raise ValueError(f"{what} at line {error.lineno}, column {error.colno}") from error
    except RecursionError as error:
        raise ValueError(f"it is nested deeper than {DEEPEST} levels") from error
    level = [value]
    for _ in range(DEEPEST):
        level = [inner for outer in level for inner in _inside(outer)]
    if level:
        raise ValueError(f"it is nested deeper than {DEEPEST} levels")
    return value


def shown(value: Any, longest: int = 40) -> str:
    """Return a parsed value for a message: JSON, cut off if it is long.

    Example:
        >>> shown([0.5, None]), shown("abcdefgh", longest=6)
        ('[0.5, null]', '"ab...')
    """
    text = json.dumps(value)
    return text if len(text) <= longest else text[: longest - 3] + "..."


def _inside(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for key, value in pairs:
        if key in content:
            raise ValueError(f"the key {shown(key)} occurs twice in one object")
        content[key] = value
    return content


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text[:12]}{'...' if len(text) > 12 else ''} is too large a number")
    return value


def _whole(text: str) -> int:
    _float(text)
    return int(text)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON number")
