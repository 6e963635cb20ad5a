"""ranet costs: the cost of each exit of a network."""

from __future__ import annotations

from omegaconf import DictConfig

from ranet.cli.inputs.build import plain
from ranet.cost.profile import CostProfile, measure_costs
from ranet.models.collaboration import InlineCollaboration
from ranet.models.registry import create_network
from ranet.support.console import new_console, print_sheets, say
from ranet.support.sheet import Column, Sheet


def run(config: DictConfig) -> None:
    """Print the costs of a network, and write them to ``output``."""
    options = plain(config.model)
    name = options.pop("name")
    # Options that are not set keep the values of the preset.
    network = create_network(name, **{option: value for option, value in options.items() if value is not None})
    if config.collaboration:
        network = InlineCollaboration(network)
        name += " with collaboration"
    profile = measure_costs(network, config.image_size)
    console = new_console()
    print_sheets(console, _sheet(name, profile))
    if config.output is not None:
        profile.save(config.output)
        say(console, f"Written to {config.output}")


def _sheet(name: str, profile: CostProfile) -> Sheet:
    counts = {
        "MACs": profile.lazy_macs_per_exit,
        "MACs alone": profile.lazy_macs_per_exit_alone,
        "MACs in training": profile.macs_per_exit,
        "paper ops": profile.paper_ops_per_exit,
    }
    exits = range(profile.num_exits)
    return Sheet(
        f"{name}: {profile.parameters:,} parameters, images of {profile.image_size} pixels",
        [{"exit": k + 1} | {heading: of_exit[k] / 1e6 for heading, of_exit in counts.items()} for k in exits],
        [Column("exit"), *(Column(heading, form=",.2f") for heading in counts)],
        "millions for one image, up to the exit, as the engine computes it; alone: without the heads before",
    )
