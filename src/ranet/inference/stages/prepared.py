"""A trained network made ready to answer: nothing left of training, and batch normalisation folded away."""

from __future__ import annotations

import copy
from typing import cast

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from ranet.models.collaboration import CollaborationLink
from ranet.models.papers.layers import ConvNorm
from ranet.models.papers.msdnet import MSDNet
from ranet.models.staged import StagedNetwork


def prepared(network: StagedNetwork) -> StagedNetwork:
    """Return a copy of a network that gives the same logits to rounding and computes nothing that they do not need.

    It is in evaluation mode, without gradients; batch normalisation is folded into the convolution or linear layer
    before it; an MSDNet is lazy, so that an image that leaves early has computed only what its exits read. Layers of
    networks that ranet does not know stay as they are, but for convolutions with batch normalisation right behind them
    in an ``nn.Sequential``.
    """
    ready = copy.deepcopy(network).eval().requires_grad_(False)
    for module in ready.modules():
        if isinstance(module, MSDNet):
            module.lazy = True
        elif isinstance(module, ConvNorm):
            module.conv = _folded(module.conv, module.norm)
            module.norm = cast(nn.BatchNorm2d, nn.Identity())
        elif isinstance(module, CollaborationLink):
            module.expand = fuse_linear_bn_eval(module.expand, module.norm)
            module.norm = cast(nn.BatchNorm1d, nn.Identity())
        elif isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward:
            for i in range(len(module) - 1):
                before, norm = module[i], module[i + 1]
                # Subclasses and hooks may do more, as timm's batch normalisation with an activation.
                if type(before) is not nn.Conv2d or type(norm) is not nn.BatchNorm2d or _hooked(before, norm):
                    continue
                if norm.track_running_stats:
                    module[i], module[i + 1] = _folded(before, norm), nn.Identity()
    return ready


def _hooked(*layers: nn.Module) -> bool:
    return any(layer._forward_hooks or layer._forward_pre_hooks for layer in layers)


def _folded(convolution: nn.Conv2d, norm: nn.Module) -> nn.Conv2d:
    if isinstance(norm, nn.Identity):  # this module is in the network twice, and was met before
        return convolution
    return fuse_conv_bn_eval(convolution, cast(nn.BatchNorm2d, norm))
