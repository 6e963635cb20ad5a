"""Inline Subnetwork Collaboration: the paper's layers and counts, and which gradients go where."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import ranet
from ranet.errors import UserError
from ranet.models import InlineCollaboration, StagedNetwork, create_network, list_networks
from ranet.models.collaboration import CollaborationLink

TINY = {
    "msdnet": {"blocks": 3, "mode": "even", "base": 1, "step": 1, "channels": 4, "growth": 2},
    "ranet": {"channels": 4, "growth": 4, "mode": "even", "step": 1},
}


def collaborating(name: str, detach: bool = True) -> InlineCollaboration:
    torch.manual_seed(0)
    return InlineCollaboration(create_network(name, num_classes=7, **TINY[name]), detach)


@pytest.mark.parametrize(
    ("network", "classes", "count"),
    [
        ("msdnet_imagenet_4", 1000, 5_193_800),
        ("msdnet_imagenet_6", 1000, 8_661_136),
        ("msdnet_imagenet_7", 1000, 8_845_256),
        ("msdnet_cifar_budgeted_5", 100, 168_436),
    ],
)
def test_linear_layers_and_links_have_as_many_parameters_as_in_the_authors_code(
    network: str, classes: int, count: int
) -> None:
    with torch.device("meta"):
        wrapped = InlineCollaboration(create_network(network, num_classes=classes))
    assert sum(p.numel() for module in wrapped.after_features() for p in module.parameters()) == count


def test_a_link_and_a_linear_layer_are_the_papers_layer_on_a_concatenation() -> None:
    torch.manual_seed(0)
    features, previous = torch.randn(6, 20).double(), torch.randn(6, 7).double()
    own, link = nn.Linear(20, 7).double(), CollaborationLink(7, 20).double()
    wide = nn.Linear(40, 7).double()
    with torch.no_grad():
        wide.weight.copy_(torch.cat([own.weight, link.linear.weight], dim=1))
        wide.bias.copy_(own.bias)
    message = torch.relu(nn.functional.batch_norm(link.expand(previous), None, None, training=True))
    expected = wide(torch.cat([features, message], dim=1))
    torch.testing.assert_close(own(features) + link(previous), expected)


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("detach", [True, False])
def test_later_losses_train_earlier_linear_layers_only_without_detach(name: str, detach: bool) -> None:
    network = collaborating(name, detach).train()
    logits = network(torch.randn(4, 3, 32, 32))
    labels = torch.tensor([0, 1, 2, 3])
    for j in range(network.num_exits):
        network.zero_grad()
        cross_entropy(logits[j], labels).backward(retain_graph=True)
        assert bool(network.readouts[j].weight.grad.any())  # type: ignore[union-attr]
        for earlier in range(j):
            own = [network.readouts[earlier], *([network.links[earlier - 1]] if earlier else [])]
            reached = [p.grad is not None and bool(p.grad.any()) for module in own for p in module.parameters()]
            assert any(reached) != detach
            if not detach:
                assert bool(network.readouts[earlier].weight.grad.any())  # type: ignore[union-attr]


@pytest.mark.parametrize("name", TINY)
def test_it_is_a_staged_network_like_any_other(name: str) -> None:
    network = collaborating(name).eval()
    images = torch.randn(3, 3, 32, 32)
    logits = network(images)
    state = network.stem(images)
    for k in range(network.num_exits):
        state = network.advance(k, state)
        answer = network.answer(k, state)
        torch.testing.assert_close(answer, logits[k])
        torch.testing.assert_close(network.forward_to(images, k), logits[k])
        assert network.features(k, state).shape == (3, network.readouts[k].in_features)
        state = network.carry(k, state, answer)
    assert not torch.allclose(logits[1], network.network(images)[1])
    assert torch.equal(logits[0], network.network(images)[0])


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if i % 4 else [])
        for i, name in enumerate(list_networks("*_cifar_*"))
    ],
)
def test_costs_count_the_links_and_know_that_no_head_can_be_skipped(name: str) -> None:
    plain = create_network(name, num_classes=100)
    before, after = ranet.measure_costs(plain), ranet.measure_costs(InlineCollaboration(plain))
    classes = 100
    links = [0, *(2 * classes * plain.readouts[k].in_features for k in range(1, plain.num_exits))]
    np.testing.assert_array_equal(np.subtract(after.macs_per_exit, before.macs_per_exit), np.cumsum(links))
    assert before.macs_per_exit_alone[-1] < before.macs_per_exit[-1]
    assert after.macs_per_exit_alone == after.macs_per_exit
    assert after.parameters - before.parameters == sum(p.numel() for m in _links(plain) for p in m.parameters())


def _links(network: StagedNetwork) -> list[CollaborationLink]:
    widths = [network.readouts[k].in_features for k in range(1, network.num_exits)]
    return [CollaborationLink(network.num_classes, width) for width in widths]


def test_the_wrapped_network_keeps_its_weights_and_every_parameter_learns() -> None:
    torch.manual_seed(0)
    plain = create_network("msdnet", num_classes=7, **TINY["msdnet"])
    before = {name: value.clone() for name, value in plain.state_dict().items()}
    network = InlineCollaboration(plain)
    assert {f"network.{name}" for name in before} <= set(network.state_dict())
    assert all(torch.equal(value, before[name]) for name, value in plain.state_dict().items())
    logits: Tensor = network(torch.randn(4, 3, 32, 32))
    logits.square().sum().backward()
    assert all(p.grad is not None for p in network.parameters())


def test_what_cannot_collaborate_is_refused() -> None:
    with pytest.raises(UserError, match="collaborate already"):
        InlineCollaboration(collaborating("msdnet"))
    with pytest.raises(UserError, match="this network has one"):
        InlineCollaboration(create_network("msdnet", blocks=1, base=3))
