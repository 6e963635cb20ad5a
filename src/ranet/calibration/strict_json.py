"""JSON that every reader accepts: the format itself has no infinities and no NaN, though Python writes them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np


def plain(value: Any) -> Any:
    """The value in JSON's own types: arrays become lists, NumPy scalars Python's, infinities and NaN become None.

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
    """The value as indented JSON text that ends in a newline; floats keep every bit.

    Example:
        >>> strict_json([1.5, float("inf")]).split()
        ['[', '1.5,', 'null', ']']
    """
    return json.dumps(plain(value), indent=2, allow_nan=False, ensure_ascii=False) + "\n"
