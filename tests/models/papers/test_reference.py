"""The networks against the reference implementations' logits, for the same weights."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from ranet import UserError, create_network, load_public_checkpoint

FIXTURES = ("msdnet_lin_grow_small", "ranet_3scales_lg_small", "ranet_4scales_even_small")


def read(path: Path) -> tuple[dict[str, torch.Tensor], dict]:
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dictionary)
        return tensors, {**json.loads(file.metadata()["configuration"]), "network": file.metadata()["network"]}


def network_of(reference: dict) -> torch.nn.Module:
    """Our network of a reference configuration, whose values are strings."""
    options = {
        "channels": int(reference["nChannels"]),
        "growth": int(reference["growthRate"]),
        "growth_factors": json.loads(reference["grFactor"]),
        "bottleneck_factors": json.loads(reference["bnFactor"]),
        "mode": reference["stepmode"],
        "step": int(reference["step"]),
    }
    if reference["network"] == "msdnet":
        options |= {"blocks": int(reference["nBlocks"]), "base": int(reference["base"])}
    else:
        options |= {"blocks": int(reference["nBlocks"]), "scale_list": json.loads(reference["scale_list"])}
    return create_network(reference["network"], **options).eval()


@pytest.fixture(params=FIXTURES)
def reference(request: pytest.FixtureRequest, shared: Path) -> tuple:
    tensors, configuration = read(shared / "fixtures" / f"{request.param}.safetensors")
    weights = {n.removeprefix("weights."): value for n, value in tensors.items() if n.startswith("weights.")}
    # In double precision: what is left between the logits is the rounding of the reference alone.
    return network_of(configuration).double(), weights, tensors["input"].double(), tensors["logits"].double()


def test_logits_are_those_of_the_reference(reference: tuple) -> None:
    network, weights, images, logits = reference
    load_public_checkpoint(network, weights)
    with torch.no_grad():
        torch.testing.assert_close(network(images), logits, atol=1e-4, rtol=0)
        if hasattr(network, "lazy"):
            network.lazy = True
            torch.testing.assert_close(network(images), logits, atol=1e-4, rtol=0)


@pytest.mark.parametrize("wrapped", [False, True])
def test_checkpoints_load_from_files_as_they_are_published(reference: tuple, wrapped: bool, tmp_path: Path) -> None:
    network, weights, images, logits = reference
    content = {"epoch": 300, "state_dict": {f"module.{n}": v for n, v in weights.items()}} if wrapped else weights
    torch.save(content, tmp_path / "model.pth.tar")
    load_public_checkpoint(network, tmp_path / "model.pth.tar")
    with torch.no_grad():
        torch.testing.assert_close(network(images), logits, atol=1e-4, rtol=0)


def test_imagenet_stems_load_with_the_names_of_the_bare_sequence() -> None:
    # The published ImageNet networks start with a plain sequence, so their names lack the "net" of all other units.
    options = {"image_size": 224, "channels": 4, "growth": 4, "mode": "even", "step": 1}
    msdnet = create_network("msdnet", base=1, blocks=3, **options)
    ranet = create_network("ranet", scale_list=[1, 2], growth_factors=[2, 1], bottleneck_factors=[2, 1], **options)
    for network, prefix in ((msdnet, "blocks.0.0.layers.0"), (ranet, "FirstLayer.layers.0")):
        names = {"0.weight": torch.rand(4, 3, 7, 7), "0.bias": torch.rand(4), "1.weight": torch.rand(4)}
        with pytest.raises(UserError, match=r"missing in it, 0 unknown and 0 of another shape"):
            load_public_checkpoint(network, {f"{prefix}.{name}": value for name, value in names.items()})


def test_a_checkpoint_of_another_network_is_refused_and_changes_nothing(reference: tuple) -> None:
    _, weights, _, _ = reference
    other = create_network("ranet", channels=8, growth=8)
    before = {name: value.clone() for name, value in other.state_dict().items()}
    with pytest.raises(UserError, match="of another network"):
        load_public_checkpoint(other, weights)
    assert all(torch.equal(value, before[name]) for name, value in other.state_dict().items())


@pytest.mark.parametrize("content", [b"", b"no checkpoint at all"])
def test_what_is_no_checkpoint_is_refused(content: bytes, tmp_path: Path) -> None:
    for name in ("broken.pth", "broken.safetensors"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match="not a checkpoint that can be read"):
            load_public_checkpoint(create_network("msdnet_tiny"), tmp_path / name)
    with pytest.raises(UserError, match="There is no checkpoint"):
        load_public_checkpoint(create_network("msdnet_tiny"), tmp_path / "absent.pth")
    with pytest.raises(UserError, match="must be a dictionary"):
        load_public_checkpoint(create_network("msdnet_tiny"), {"weights": 1})
