"""Loading the checkpoints that the MSDNet and RANet authors and their followers published."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from ranet.errors import UserError
from ranet.models.checkpoint_files import Differences, read_checkpoint, weights_in
from ranet.models.papers.msdnet import MSDNet
from ranet.models.papers.ranet import RANet
from ranet.models.staged import StagedNetwork

_UNIT = {"0": "bottleneck.conv", "1": "bottleneck.norm", "3": "conv.conv", "4": "conv.norm"}
_BASIC = {"0": "conv", "1": "norm"}


def load_public_checkpoint(network: StagedNetwork, checkpoint: str | Path | Mapping[str, Any]) -> StagedNetwork:
    """Load a checkpoint with the parameter names of the public MSDNet or RANet code into a network.

    Args:
        network: an ``MSDNet`` or ``RANet`` of the checkpoint's configuration; it is changed in place.
        checkpoint: a file (``.safetensors``, or one that ``torch.load`` reads without running code from it) or a state
            dictionary; the dictionary may lie under "state_dict" and its names may start with "module.".

    Returns:
        The network.

    Raises:
        UserError: if the file cannot be read, or is of another network.
    """
    if isinstance(checkpoint, str | Path):
        if not (path := Path(checkpoint)).is_file():
            raise UserError(f"There is no checkpoint {path}.")
        checkpoint = read_checkpoint(path)
    renamed = {our_name(network, name): value for name, value in weights_in(checkpoint).items()}
    differences = Differences.between(network.state_dict(), renamed)
    if differences:
        missing, unknown, different = differences.missing, differences.unexpected, [*differences.shapes]
        example = min(different or missing or unknown)
        raise UserError(
            f"The checkpoint is of another network than this {type(network).__name__}: {len(missing)} parameters are "
            f"missing in it, {len(unknown)} unknown and {len(different)} of another shape (for example {example}); "
            "build the network with the checkpoint's options."
        )
    network.load_state_dict(renamed, strict=False)
    return network


def our_name(network: nn.Module, name: str) -> str:
    """Return our name of a public parameter; a name that fits no pattern is returned, and reported as unknown later."""
    if match := re.fullmatch(r"classifier\.(\d+)\.(?:m\.([01])\.net\.([01])|(linear))\.(\w+)", name):
        k, conv, part, linear, leaf = match.groups()
        return f"heads.{k}.linear.{leaf}" if linear else f"heads.{k}.conv{int(conv) + 1}.{_BASIC[part]}.{leaf}"
    if match := re.fullmatch(r"(?:blocks\.0\.0|FirstLayer)\.layers\.(\d+)\.(net\.)?([01])\.(\w+)", name):
        layer, net, part, leaf = match.groups()
        # The first ImageNet layer is a bare sequence, all others are Conv-BN-ReLU units.
        return f"base.{layer}.{_BASIC[part] if net else part}.{leaf}"
    if isinstance(network, MSDNet):
        return _msdnet_name(network, name)
    if isinstance(network, RANet):
        return _ranet_name(name)
    return name


def _msdnet_name(network: MSDNet, name: str) -> str:
    match = re.fullmatch(
        r"blocks\.(\d+)\.(\d+)\.(?:layers\.(\d+)\.conv_(normal|down)|m\.(\d+))\.net\.(\d)\.(\w+)", name
    )
    if match is None:
        return name
    block, index, layer_scale, source, transition_scale, part, leaf = match.groups()
    # Their first block starts with the stem; their scales are counted from the finest kept one.
    position = int(index) - (1 if block == "0" else 0)
    kept = int(layer_scale if transition_scale is None else transition_scale)
    try:
        scale = network.blocks[int(block)][position].scales[kept]  # type: ignore[index]
    except IndexError:
        return name
    place = f"blocks.{block}.{position}"
    if transition_scale is not None:
        return f"{place}.own.{scale}.{_BASIC[part]}.{leaf}"
    return f"{place}.{'own' if source == 'normal' else 'finer'}.{scale}.{_UNIT[part]}.{leaf}"


def _ranet_name(name: str) -> str:
    if match := re.fullmatch(r"scale_flows\.(\d+\.\d+)\.(conv_last|trans)\.net\.([01])\.(\w+)", name):
        block, module, part, leaf = match.groups()
        ours = "append" if module == "conv_last" else "transition"
        return f"sub_networks.{block}.{ours}.{_BASIC[part]}.{leaf}"
    if match := re.fullmatch(r"scale_flows\.(\d+\.\d+)\.layers\.(\d+)\.(?:conv_(normal|up)\.)?net\.(\d)\.(\w+)", name):
        block, layer, source, part, leaf = match.groups()
        return f"sub_networks.{block}.{'low' if source == 'up' else 'own'}.{layer}.{_UNIT[part]}.{leaf}"
    return name
