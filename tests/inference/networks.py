"""Small networks that answer as if they had been trained."""

import math
from typing import Any

import torch
from torch import nn

from ranet import InlineCollaboration, create_network
from ranet.models import StagedNetwork

#: How far two right answers in float32 may lie apart, relative to the largest logit. Runtimes and processors add
#: products up in orders of their own; a sum of n is then off by about sqrt(n) roundings. These networks have fewer
#: than 20 layers of 1,000 products. Six times that is met by no chance, and no mistake is so small.
FLOAT32 = 6 * 2**-24 * math.sqrt(20 * 1000)


def trained_looking(network: StagedNetwork, seed: int) -> StagedNetwork:
    """Statistics and scales as if the network had been trained, and logits that spread."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.running_mean = torch.randn(module.num_features, generator=generator) * 0.1
            module.running_var = torch.rand(module.num_features, generator=generator) + 0.5
            module.weight.data = torch.rand(module.num_features, generator=generator) + 0.5
            module.bias.data = torch.randn(module.num_features, generator=generator) * 0.1
        elif isinstance(module, nn.Linear):
            module.weight.data = torch.randn(module.weight.shape, generator=generator) * 0.5
    return network.eval()


def make(name: str, seed: int = 0, **options: Any) -> StagedNetwork:
    torch.manual_seed(seed)
    network = create_network(name.removeprefix("isc_"), **options)
    return trained_looking(InlineCollaboration(network) if name.startswith("isc_") else network, seed)


def make_of_three_exits(name: str) -> StagedNetwork:
    """A shallow msdnet_tiny or ranet_tiny, which runtimes compile in a fraction of the time."""
    return make(name, **({"blocks": 1, "block_step": 1} if "ranet" in name else {"blocks": 3}))
