"""The edge between a person and the program: what they got wrong is said in one sentence."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.errors import ConfigCompositionException, HydraException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from ranet.errors import UserError, unknown_name
from ranet.models.registry import list_networks, option_defaults

Task = Callable[[DictConfig], Any]


def command(config_name: str) -> Callable[[Task], Callable[[], None]]:
    """Decorator: make a function of a resolved configuration a command with Hydra's overrides and multirun.

    A ``UserError`` ends the command with its sentence on standard error and status 1; an override that does not fit the
    configuration with status 2. Any other error is a fault of the program and keeps its traceback.
    """

    def decorate(task: Task) -> Callable[[], None]:
        def main() -> None:
            register_model_group()
            # Without this Hydra prints errors of its own and exits before they come here.
            os.environ["HYDRA_FULL_ERROR"] = "1"
            entry = hydra.main(version_base="1.3", config_path="pkg://ranet.conf", config_name=config_name)
            try:
                entry(task)()
            except UserError as error:
                _leave(str(error), 1)
            except (ConfigCompositionException, OverrideParseException) as error:
                _leave(_sentence(error), 2)
            except (HydraException, OmegaConfBaseException) as error:
                if isinstance(error.__cause__, UserError):  # raised while Hydra built an object
                    _leave(str(error.__cause__), 1)
                raise

        return main

    return decorate


def register_model_group() -> None:
    """Give every preset and family its entry in the group ``model``, with all options of its family."""
    store = ConfigStore.instance()
    for name in [*list_networks(), "msdnet", "ranet"]:
        node: dict[str, Any] = {"name": name, **option_defaults(name)}
        # These follow the data unless they are set.
        node["num_classes"] = node["image_size"] = None
        store.store(group="model", name=name, node=node)


def _leave(message: str, status: int) -> None:
    print(f"ranet: {message}", file=sys.stderr)
    raise SystemExit(status)


def _sentence(error: Exception) -> str:
    """Hydra's message about an override, as one sentence, with near matches where a name is not known."""
    message = str(error)
    if match := re.search(r"Could not find '([\w/]+)/([^']+)'", message):
        group, name = match.groups()
        options = re.findall(r"^\t(\S+)$", message, flags=re.MULTILINE)
        return str(unknown_name(f"{group}=", name, options))
    if match := re.search(r"Could not override '([^']+)'", message):
        return f"There is no option {match.group(1)}; ranet VERB --cfg job shows them all."
    first = message.strip().splitlines()[0]
    return f"The overrides cannot be used: {first}"
