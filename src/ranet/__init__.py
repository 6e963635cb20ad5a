"""ranet: networks that can stop early, budgets that say when they should, and a runtime that really stops them."""

from ranet.models import create_network, list_networks, load_public_checkpoint

__all__ = ["create_network", "list_networks", "load_public_checkpoint"]
