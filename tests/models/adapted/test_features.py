"""Heads on features answer what the network answers, with the same parameters."""

import pytest
import torch
from torch import Tensor, nn

from ranet import InlineCollaboration, UserError, add_exits, create_network
from ranet.models.adapted.features import features_of, on_features
from ranet.models.staged import StagedNetwork

IMAGES = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))


class Tokens(nn.Module):
    """A backbone with tokens, whose heads have a normalisation to train."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 6, 4, stride=4)
        self.mix = nn.Linear(6, 6)
        self.end = nn.Linear(6, 5)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.patches(images).flatten(2).transpose(1, 2)
        return self.end(self.mix(tokens).relu().mean(dim=1))


def small(head: str = "linear", at: str = "2") -> StagedNetwork:
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 6, 3, stride=2), nn.ReLU(), nn.Flatten(),
        nn.Linear(216, 5),
    )  # fmt: skip
    return add_exits(layers, at=[at], head=head, input_size=(3, 16, 16))


def tokens() -> StagedNetwork:
    torch.manual_seed(0)
    return add_exits(Tokens(), at=["mix"], input_size=(3, 16, 16))


def not_linear() -> StagedNetwork:
    """The backbone ends in a convolution, so its own head is the identity."""
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 14), nn.Flatten())
    return add_exits(layers, at=["1"], input_size=(3, 16, 16))


MAKE = [small, lambda: small("conv"), tokens, not_linear]


@pytest.mark.parametrize("make", MAKE, ids=["linear", "conv", "tokens", "not-linear"])
@pytest.mark.parametrize("collaborates", [False, True])
def test_heads_on_features_answer_what_the_network_answers(make, collaborates: bool) -> None:
    network = make()
    if collaborates:
        if make is MAKE[-1]:
            return
        network = InlineCollaboration(network)
    network.eval()
    alone = on_features(network)
    features = features_of(network, IMAGES)
    assert len(features) == 4
    assert not features.requires_grad
    torch.testing.assert_close(alone(features), network(IMAGES), rtol=1e-5, atol=1e-6)

    alone(features).square().sum().backward()
    got = {name: value.grad for name, value in network.named_parameters() if value.grad is not None}
    assert any(name.startswith(("heads.0", "network.heads.0")) for name in got)
    assert any("links" in name for name in got) == collaborates
    frozen = {"patches", "0.weight", "1.weight"}
    assert not any(name.rpartition("backbone.")[2] in frozen for name in got)
    network.zero_grad()
    network(IMAGES).square().sum().backward()
    for name, value in network.named_parameters():
        if name in got:
            torch.testing.assert_close(got[name], value.grad)


def test_pooled_features_are_small() -> None:
    """A linear head needs the mean of each channel and no more; the head with a convolution the whole map."""
    assert features_of(small().eval(), IMAGES).shape[1] == 4 + 216
    assert features_of(small("conv").eval(), IMAGES).shape[1] == 4 * 14 * 14 + 216


def test_a_network_without_added_exits_is_refused() -> None:
    with pytest.raises(UserError, match="MSDNet has none: use model=with_exits"):
        on_features(create_network("msdnet_tiny"))
