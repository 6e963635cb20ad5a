"""Staged networks: the contract, MSDNet, RANet, presets by name and published checkpoints."""

from typing import TYPE_CHECKING

from ranet.models.papers import presets as presets  # known by name without PyTorch
from ranet.support.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from ranet.models.adapted.backbone import BackboneWithExits, add_exits
    from ranet.models.adapted.cascade import Cascade
    from ranet.models.adapted.single_exit import SingleExit, single_exit
    from ranet.models.collaboration import InlineCollaboration
    from ranet.models.fingerprint import network_fingerprint
    from ranet.models.papers.msdnet import MSDNet
    from ranet.models.papers.public_checkpoints import load_public_checkpoint
    from ranet.models.papers.ranet import RANet
    from ranet.models.registry import (
        Preset,
        create_network,
        is_published,
        list_families,
        list_networks,
        network_preset,
    )
    from ranet.models.staged import LinearHeads, StagedNetwork, State
    from ranet.models.weights import load_weights

__all__ = [
    "Cascade",
    "BackboneWithExits",
    "InlineCollaboration",
    "LinearHeads",
    "MSDNet",
    "Preset",
    "RANet",
    "SingleExit",
    "StagedNetwork",
    "State",
    "add_exits",
    "create_network",
    "is_published",
    "list_families",
    "list_networks",
    "load_public_checkpoint",
    "load_weights",
    "network_fingerprint",
    "network_preset",
    "single_exit",
]
__getattr__, __dir__ = lazy_exports(__name__)
