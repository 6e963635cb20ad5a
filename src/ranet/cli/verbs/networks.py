"""ranet networks: the networks by name."""

from __future__ import annotations

from omegaconf import DictConfig
from rich.table import Table

from ranet.errors import unknown_name
from ranet.models.registry import list_networks, network_preset
from ranet.support.console import new_console, print_table


def run(config: DictConfig) -> None:
    """Print the networks whose names match the pattern."""
    pattern = str(config.pattern)
    names = list_networks(pattern)
    if not names:
        raise unknown_name("network", pattern, list_networks())
    table = Table("name", "family", "what it is", box=None)
    for name in names:
        preset = network_preset(name)
        table.add_row(name, preset.family, preset.about)
    print_table(new_console(), table)
