"""The edge between a person and the program: what they got wrong is said in one sentence."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from typing import Any, NoReturn

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.errors import ConfigCompositionException, InstantiationException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import InterpolationResolutionError, MissingMandatoryValue

from ranet.errors import UserError, unknown_name
from ranet.models.registry import list_families, list_networks, option_defaults

Task = Callable[[DictConfig], Any]


def command(config_name: str) -> Callable[[Task], Callable[[], None]]:
    """Make a function of a composed configuration a command with Hydra's overrides and multirun.

    A ``UserError`` ends the command with its sentence on standard error and status 1; an override that does not fit the
    configuration with status 2. Any other error is a fault of the program and keeps its traceback.
    """

    def decorate(task: Task) -> Callable[[], None]:
        def guarded(config: DictConfig) -> Any:
            try:
                return task(config)
            except Exception as error:
                # In a sweep the other jobs go on, and Hydra says at the end which of them failed.
                if HydraConfig.get().mode is RunMode.RUN:
                    _leave_if_said(error)
                raise

        def main() -> None:
            register_model_group()
            # Without this Hydra prints errors of its own and exits before they come here.
            os.environ["HYDRA_FULL_ERROR"] = "1"
            entry = hydra.main(version_base="1.3", config_path="pkg://ranet.conf", config_name=config_name)
            try:
                entry(guarded)()
            except Exception as error:
                _leave_if_said(error)
                raise

        return main

    return decorate


def register_model_group() -> None:
    """Give every preset and family its entry in the group ``model``, with all options of its family."""
    store = ConfigStore.instance()
    for name in [*list_networks(), *list_families()]:
        # Class count and image size follow the data unless they are set.
        node = {"name": name, **option_defaults(name), "num_classes": None, "image_size": None}
        store.store(group="model", name=name, node=node)


def _leave_if_said(error: Exception) -> None:
    """Leave with a sentence if the error is the user's; return if it is a fault of the program."""
    if isinstance(error, InstantiationException) and isinstance(error.__cause__, UserError):
        error = error.__cause__
    if isinstance(error, UserError):
        _leave(str(error), 1)
    if isinstance(error, MissingMandatoryValue):
        _leave(f"{error.full_key} is needed: add {error.full_key}=VALUE.", 2)
    if isinstance(error, ConfigCompositionException | OverrideParseException | InterpolationResolutionError):
        _leave(_sentence(error), 2)


def _leave(message: str, status: int) -> NoReturn:
    print(f"ranet: {message}", file=sys.stderr)
    raise SystemExit(status)


def _sentence(error: Exception) -> str:
    """Hydra's message about an override as one sentence, with near matches where a name is not known."""
    message = str(error)
    if match := re.search(r"Could not find '(\w+)/([^']+)'", message):
        group, name = match.groups()
        return str(unknown_name(group, name, re.findall(r"^\t(\S+)$", message, flags=re.MULTILINE)))
    if match := re.search(r"Could not override '([^']+)'", message):
        return f"There is no option {match.group(1)}; ranet VERB --cfg job shows them all."
    return f"The options cannot be used: {message.strip().splitlines()[0]}"
