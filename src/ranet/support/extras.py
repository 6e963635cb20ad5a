"""Packages that come with an extra of ranet, and the sentence where one is not there."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ranet.errors import UserError


def require(package: str, extra: str, what: str) -> Any:
    """Import a package that is not always installed.

    Args:
        package: its name.
        extra: of ranet, with which it comes.
        what: what needs it, as the sentence begins.

    Returns:
        The package.

    Raises:
        UserError: if it is not there, or cannot be imported.

    Example:
        >>> require("abacus", "onnx", "Counting")
        Traceback (most recent call last):
        ranet.errors.UserError: Counting needs the package abacus, which is not there; pip install "ranet[onnx]".
    """
    try:
        return import_module(package)
    except ImportError as error:
        raise UserError(f'{what} needs the package {package}, which is not there; pip install "ranet[{extra}]".') from (
            error
        )
