"""The published networks, and small ones for machines without a GPU, by name."""

from __future__ import annotations

from typing import Any

from ranet.models.registry import register_family, register_network

Options = dict[str, Any]


def _per_scale(*factors: int) -> Options:
    """Return the factors of growth and bottlenecks, which are the same in every published configuration."""
    return {"growth_factors": factors, "bottleneck_factors": factors}


# The arguments of the classes, with their defaults.
register_family(
    "msdnet", "ranet.models.papers.msdnet", "MSDNet",
    num_classes=10, image_size=32, in_channels=3, blocks=5, mode="lin_grow", base=1, step=1, channels=16, growth=6,
    **_per_scale(1, 2, 4), reduction=0.5, prune="max", lazy=False, stem=None, head=None,
)  # fmt: skip
register_family(
    "ranet", "ranet.models.papers.ranet", "RANet",
    num_classes=10, image_size=32, in_channels=3, channels=16, growth=6, scale_list=(1, 2, 3),
    **_per_scale(4, 2, 1), mode="lg", step=2, blocks=2, block_step=2, compress_factor=0.25, reduction=0.5, stem=None,
    head=None,
)  # fmt: skip
register_family(
    "resnet_cifar", "ranet.models.papers.resnet_cifar", "ResNetCifar",
    num_classes=10, image_size=32, in_channels=3, depth=20, channels=16, shortcut="A",
)  # fmt: skip
register_family(
    "with_exits", "ranet.models.adapted.named", "named_with_exits",
    backbone=None, at="auto", head="linear", num_exits=4, num_classes=10, image_size=224, in_channels=3,
)  # fmt: skip

CIFAR: Options = {"num_classes": 10, "image_size": 32, "channels": 16, "growth": 6}
IMAGENET: Options = {"num_classes": 1000, "image_size": 224, "growth": 16}

# MSDNet (Huang et al., ICLR 2018)
MSDNET_CIFAR: Options = {**CIFAR, **_per_scale(1, 2, 4)}
MSDNET_IMAGENET: Options = {**IMAGENET, **_per_scale(1, 2, 4, 4), "channels": 32, "blocks": 5, "mode": "even"}

for _name, _blocks in (("msdnet_cifar_anytime", 10), ("msdnet_cifar_anytime_7", 7)):
    _about = f"published: CIFAR anytime, {_blocks} exits"
    register_network(_name, "msdnet", _about, **MSDNET_CIFAR, blocks=_blocks, mode="even", base=4, step=2)
for _blocks in (4, 5, 6, 7, 8):
    _about = f"published: CIFAR budgeted, {_blocks} exits"
    register_network(
        f"msdnet_cifar_budgeted_{_blocks}", "msdnet", _about,
        **MSDNET_CIFAR, blocks=_blocks, mode="lin_grow", base=1, step=1,
    )  # fmt: skip
for _layers in (4, 6, 7):
    _about = f"published: ImageNet, {_layers} layers a block, 5 exits"
    register_network(f"msdnet_imagenet_{_layers}", "msdnet", _about, **MSDNET_IMAGENET, base=_layers, step=_layers)

# RANet (Yang et al., CVPR 2020)
RANET_123: Options = {"scale_list": (1, 2, 3), **_per_scale(4, 2, 1)}
RANET_1223: Options = {"scale_list": (1, 2, 2, 3), **_per_scale(4, 2, 2, 1)}
RANET_1233: Options = {"scale_list": (1, 2, 3, 3), **_per_scale(4, 2, 1, 1)}
RANET_IMAGENET: Options = {**IMAGENET, "scale_list": (1, 2, 3, 4), **_per_scale(4, 2, 2, 1), "mode": "even", "step": 8}

register_network(
    "ranet_cifar_anytime", "ranet", "published: CIFAR anytime, 8 exits", **CIFAR, **RANET_1233, mode="even", step=4
)
for _number, _resolutions, _exits in ((1, RANET_123, 6), (2, RANET_1223, 8), (3, RANET_1233, 8)):
    _about = f"published: CIFAR budgeted model {_number}, {_exits} exits"
    register_network(f"ranet_cifar_budgeted_{_number}", "ranet", _about, **CIFAR, **_resolutions, mode="lg", step=2)
for _name, _about, _channels in (
    ("ranet_imagenet_anytime", "published: ImageNet anytime, 8 exits", 64),
    ("ranet_imagenet_budgeted_1", "published: ImageNet budgeted model 1, 8 exits", 32),
    ("ranet_imagenet_budgeted_2", "published: ImageNet budgeted model 2, 8 exits", 64),
):
    register_network(_name, "ranet", _about, **RANET_IMAGENET, channels=_channels)

# ResNets for CIFAR (He et al., CVPR 2016, section 4.2)
for _depth in (20, 32, 44, 56, 110):
    register_network(f"resnet{_depth}_cifar", "resnet_cifar", "published: CIFAR, 1 exit", depth=_depth)

# For processors: fewer layers, and of them few at the full resolution, where thin layers take long.
for _size, _about, _msdnet, _ranet in (
    ("small", "for CPUs: 32-pixel images", {"channels": 12, "growth": 8, "base": 2}, {"channels": 16, "growth": 8}),
    (
        "tiny",
        "for quick trials: 32-pixel images",
        {"channels": 4, "growth": 4, "base": 1},
        {"channels": 4, "growth": 4},
    ),
):
    register_network(
        f"msdnet_{_size}", "msdnet", f"{_about}, 5 exits", **{**MSDNET_CIFAR, **_msdnet}, blocks=5, mode="even", step=1
    )
    register_network(
        f"ranet_{_size}", "ranet", f"{_about}, 6 exits", **{**CIFAR, **RANET_123, **_ranet}, mode="even", step=1
    )
