"""Numbers that a user gives to an engine, checked."""

from __future__ import annotations

from math import inf
from numbers import Real
from typing import Any

from ranet.errors import UserError


def is_count(value: object) -> bool:
    """Return whether the value is an int of at least 1 (and a size that a tensor can have)."""
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value < 2**63


def require_count(name: str, value: Any) -> int:
    """Return the value if it is an int of at least 1; else raise a UserError.

    Example:
        >>> require_count("threads", 2)
        2
        >>> require_count("threads", True)
        Traceback (most recent call last):
        ranet.errors.UserError: threads=True must be an integer of at least 1.
    """
    if not is_count(value):
        raise UserError(f"{name}={value} must be an integer of at least 1.")
    return int(value)


def require_counts(name: str, values: Any) -> tuple[int, ...]:
    """Return the values sorted and without duplicates if they are ints of at least 1; else raise a UserError."""
    try:
        given = list(values)
    except TypeError:
        given = []
    if not given or isinstance(values, str):
        raise UserError(f"{name}={values} must be a list of integers of at least 1.")
    return tuple(sorted({require_count(name, value) for value in given}))


def require_positive(name: str, value: Any, of: str) -> float:
    """Return the value if it is a positive finite number; else raise a UserError that says ``of`` what."""
    if not isinstance(value, Real) or isinstance(value, bool) or not 0 < float(value) < inf:
        raise UserError(f"{name}={value} must be a positive number{of}.")
    return float(value)
