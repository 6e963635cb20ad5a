"""ranet networks: the networks by name."""

from __future__ import annotations

from omegaconf import DictConfig

from ranet.errors import unknown_name
from ranet.models.registry import list_networks, network_preset
from ranet.support.console import new_console, print_sheets
from ranet.support.sheet import Sheet


def run(config: DictConfig) -> None:
    """Print the networks whose names match the pattern."""
    pattern = str(config.pattern)
    names = list_networks(pattern)
    if not names:
        raise unknown_name("network", pattern, list_networks())
    presets = {name: network_preset(name) for name in names}
    rows = [{"name": name, "family": preset.family, "what it is": preset.about} for name, preset in presets.items()]
    print_sheets(new_console(), Sheet("", rows))
