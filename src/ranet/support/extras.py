"""Packages that come with an extra of ranet, and the error if one is missing."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ranet.errors import UserError


def require(package: str, extra: str, what: str) -> Any:
    """Import a package that an extra of ranet installs; ``what`` needs it, and begins the error's sentence.

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
