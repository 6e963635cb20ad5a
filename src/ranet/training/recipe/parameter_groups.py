"""Parameter groups with and without weight decay."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from ranet.errors import UserError

_NORMALISATIONS = (_NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)


def parameter_groups(network: nn.Module, decay_norm_and_bias: bool) -> list[nn.Parameter] | list[dict[str, Any]]:
    """Return the trained parameters for an optimizer, all with weight decay or with some exempt from it.

    Both papers decay all parameters. Weight decay maintains the effective learning rate of weights before a
    normalisation. For scales, shifts and biases it only pulls the values towards zero. He et al., "Bag of Tricks for
    Image Classification", CVPR 2019, section 3.1, exempt them, as do the recipes of timm and torchvision.

    Args:
        network: the network; parameters that do not require a gradient are left out.
        decay_norm_and_bias: whether weight decay applies to all parameters. If not, parameters of at most one dimension
            (biases, scales, shifts) and all parameters of normalisation modules form a group of ``weight_decay`` 0,
            which overrides the weight decay of the optimizer.

    Returns:
        The parameters in the network's order; or at most two groups, the decayed parameters first, each in the
        network's order and not empty.

    Raises:
        UserError: if ``decay_norm_and_bias`` is neither true nor false.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
        >>> [len(group["params"]) for group in parameter_groups(network, decay_norm_and_bias=False)]
        [1, 3]
    """
    if not isinstance(decay_norm_and_bias, bool):
        raise UserError(f"optim.decay_norm_and_bias={decay_norm_and_bias} must be true or false.")
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    if decay_norm_and_bias:
        return trained
    exempt = {
        id(parameter)
        for module in network.modules()
        for parameter in module.parameters(recurse=False)
        if parameter.ndim <= 1 or isinstance(module, _NORMALISATIONS)
    }
    groups: list[dict[str, Any]] = [
        {"params": [parameter for parameter in trained if id(parameter) not in exempt]},
        {"params": [parameter for parameter in trained if id(parameter) in exempt], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]
