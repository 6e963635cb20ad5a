"""Numbers and shares as people type them."""

from __future__ import annotations

from typing import TypeGuard


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether it is a number, and one that a float can hold: Python's whole numbers may be too large."""
    return isinstance(value, float) or (isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1e300)


def is_share(value: object) -> TypeGuard[str]:
    """Whether it is said as a share, such as "50%"."""
    return isinstance(value, str) and value.endswith("%")


def parse_share(text: str) -> float | None:
    """The number that a share means; None if it is none.

    Example:
        >>> parse_share("50%"), parse_share("half%")
        (0.5, None)
    """
    try:
        return float(text.removesuffix("%")) / 100
    except ValueError:
        return None
