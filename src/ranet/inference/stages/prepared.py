"""A trained network made ready to answer: nothing left of training, and batch normalisation folded away."""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import cast

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from ranet.models.adapted.backbone import BackboneWithExits
from ranet.models.collaboration import CollaborationLink
from ranet.models.papers.layers import ConvNorm
from ranet.models.papers.msdnet import MSDNet
from ranet.models.papers.pointwise import PointwiseConv2d
from ranet.models.staged import StagedNetwork


def prepared(network: StagedNetwork) -> StagedNetwork:
    """Return a copy of a network that gives the same logits to rounding and computes nothing that they do not need.

    It is in evaluation mode, without gradients; batch normalisation is folded into the convolution or linear layer
    before it; an MSDNet is lazy, so that an image that leaves early has computed only what its exits read. Layers of
    networks that ranet does not know stay as they are, but for convolutions with batch normalisation right behind them
    in an ``nn.Sequential``, or in the graph of a backbone with exits.
    """
    ready = copy.deepcopy(network).eval().requires_grad_(False)
    cut: set[nn.Module] = set()  # their modules run as graphs say, with cuts between them
    for module in ready.modules():
        if isinstance(module, BackboneWithExits):
            _fold_backbone(module)
            cut.update(module.backbone.modules())
        elif module in cut:
            continue
        elif isinstance(module, MSDNet):
            module.lazy = True
        elif isinstance(module, ConvNorm):
            module.conv = _folded(module.conv, module.norm)
            module.norm = cast(nn.BatchNorm2d, nn.Identity())
        elif isinstance(module, CollaborationLink):
            module.expand = fuse_linear_bn_eval(module.expand, module.norm)
            module.norm = cast(nn.BatchNorm1d, nn.Identity())
        elif isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward:
            for i, (before, norm) in enumerate(pairwise(module)):
                # Subclasses may do more, as timm's batch normalisation with an activation.
                if type(before) is nn.Conv2d and type(norm) is nn.BatchNorm2d and _can_be_folded(before, norm):
                    module[i], module[i + 1] = _folded(before, norm), nn.Identity()
    return ready


def _fold_backbone(network: BackboneWithExits) -> None:
    """Fold the batch normalisation of a backbone with exits; timm's has an activation, which stays."""
    backbone = network.backbone
    for first, second in network.foldable:
        before, norm = backbone.get_submodule(first), backbone.get_submodule(second)
        kind = type(norm)
        of_timm = kind.__name__ == "BatchNormAct2d" and kind.__module__.startswith("timm.")
        if type(before) not in (nn.Conv2d, PointwiseConv2d) or not (kind is nn.BatchNorm2d or of_timm):
            continue
        if not _can_be_folded(before, norm):
            continue
        backbone.set_submodule(first, _folded(cast(nn.Conv2d, before), norm))
        rest = nn.Sequential(norm.get_submodule("drop"), norm.get_submodule("act")) if of_timm else nn.Identity()
        backbone.set_submodule(second, rest)


def _can_be_folded(before: nn.Module, norm: nn.Module) -> bool:
    hooked = any(layer._forward_hooks or layer._forward_pre_hooks for layer in (before, norm))
    return not hooked and bool(norm.track_running_stats)


def _folded(convolution: nn.Conv2d, norm: nn.Module) -> nn.Conv2d:
    if isinstance(norm, nn.Identity):  # this module is in the network twice, and was met before
        return convolution
    return fuse_conv_bn_eval(convolution, cast(nn.BatchNorm2d, norm))
