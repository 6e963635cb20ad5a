"""ranet costs: what each exit of a network costs."""

from __future__ import annotations

from omegaconf import DictConfig
from rich.table import Table

from ranet.cli.inputs.build import plain
from ranet.cost.profile import CostProfile, measure_costs
from ranet.models.collaboration import InlineCollaboration
from ranet.models.registry import create_network
from ranet.support.console import new_console, print_table, say


def run(config: DictConfig) -> None:
    """Print the costs of a network, and write them where asked."""
    options = plain(config.model)
    name = options.pop("name")
    # Class count and image size are those of the preset where they are not set.
    network = create_network(name, **{option: value for option, value in options.items() if value is not None})
    if config.collaboration:
        network = InlineCollaboration(network)
        name += " with collaboration"
    profile = measure_costs(network, config.image_size)
    console = new_console()
    print_table(console, _table(name, profile))
    if config.output is not None:
        profile.save(config.output)
        say(console, f"Written to {config.output}")


def _table(name: str, profile: CostProfile) -> Table:
    table = Table(
        title=f"{name}: {profile.parameters:,} parameters, images of {profile.image_size} pixels",
        caption="millions for one image, up to the exit, as the engine computes it; alone: without the heads before",
        box=None,
    )
    columns = {
        "MACs": profile.lazy_macs_per_exit,
        "MACs alone": profile.lazy_macs_per_exit_alone,
        "MACs in training": profile.macs_per_exit,
        "paper ops": profile.paper_ops_per_exit,
    }
    for heading in ("exit", *columns):
        table.add_column(heading, justify="right")
    for k in range(profile.num_exits):
        table.add_row(str(k + 1), *(f"{counts[k] / 1e6:,.2f}" for counts in columns.values()))
    return table
