"""Staged networks: the contract, MSDNet, RANet, presets by name and published checkpoints."""

from ranet.models import presets as presets
from ranet.models.collaboration import InlineCollaboration
from ranet.models.fingerprint import network_fingerprint
from ranet.models.msdnet import MSDNet
from ranet.models.public_checkpoints import load_public_checkpoint
from ranet.models.ranet import RANet
from ranet.models.registry import Preset, create_network, is_published, list_families, list_networks, network_preset
from ranet.models.staged import StagedNetwork, State

__all__ = [
    "InlineCollaboration",
    "MSDNet",
    "Preset",
    "RANet",
    "StagedNetwork",
    "State",
    "create_network",
    "is_published",
    "list_families",
    "list_networks",
    "load_public_checkpoint",
    "network_fingerprint",
    "network_preset",
]
