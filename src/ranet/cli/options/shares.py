"""Numbers and shares (such as "50%") of the command line."""

from __future__ import annotations

from typing import TypeGuard


def is_number(value: object) -> TypeGuard[int | float]:
    """Return whether a value is a number that a float can hold (an int may be too large)."""
    return isinstance(value, float) or (isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1e300)


def is_share(value: object) -> TypeGuard[str]:
    """Return whether a value is a share, such as "50%"."""
    return isinstance(value, str) and value.endswith("%")


def parse_share(text: str) -> float | None:
    """Return the number of a share; None if it is malformed.

    Example:
        >>> parse_share("50%"), parse_share("half%")
        (0.5, None)
    """
    try:
        return float(text.removesuffix("%")) / 100
    except ValueError:
        return None
