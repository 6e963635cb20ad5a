from typing import Any

import pytest
import torch
from torch import nn

from ranet.errors import UserError
from ranet.models import create_network
from ranet.training.recipe.parameter_groups import parameter_groups
from tests.training.examples import small_network


def ids(parameters: Any) -> list[int]:
    return [id(parameter) for parameter in parameters]


def test_with_decay_everywhere_they_are_the_networks_own() -> None:
    network = small_network()
    assert ids(parameter_groups(network, decay_norm_and_bias=True)) == ids(network.parameters())


@pytest.mark.parametrize("name", ["msdnet_tiny", "ranet_tiny"])
def test_of_our_networks_only_convolutions_and_linear_weights_decay(name: str) -> None:
    network = create_network(name)
    weights = [module.weight for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    decayed, exempt = parameter_groups(network, decay_norm_and_bias=False)
    assert set(ids(decayed["params"])) == set(ids(weights))
    assert set(ids(exempt["params"])) == set(ids(network.parameters())) - set(ids(weights))
    order = {id(parameter): place for place, parameter in enumerate(network.parameters())}
    for group in (decayed, exempt):
        places = [order[i] for i in ids(group["params"])]
        assert places == sorted(places)


@pytest.mark.parametrize("norm", [nn.LayerNorm((4, 4)), nn.GroupNorm(2, 4), nn.RMSNorm((2, 4)), nn.InstanceNorm1d(4)])
def test_normalisations_of_any_shape_are_exempt(norm: nn.Module) -> None:
    norm = nn.Sequential(norm, nn.Linear(4, 4, bias=False))
    decayed, *exempt = parameter_groups(norm, decay_norm_and_bias=False)
    assert ids(decayed["params"]) == ids(norm[1].parameters())
    assert ids(parameter for group in exempt for parameter in group["params"]) == ids(norm[0].parameters())


def test_frozen_parameters_are_left_out_and_shared_ones_come_once() -> None:
    network = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.BatchNorm1d(3))
    network[1].weight = network[0].weight
    network[2].requires_grad_(False)
    for decay in (True, False):
        groups = parameter_groups(network, decay)
        listed = groups if decay else [parameter for group in groups for parameter in group["params"]]
        assert sorted(ids(listed)) == sorted(ids([network[0].weight, network[0].bias, network[1].bias]))
    network[0].requires_grad_(False)
    assert [group["weight_decay"] for group in parameter_groups(network, False)] == [0.0], "no group is empty"


def test_a_step_without_gradient_shrinks_what_decays_and_nothing_else() -> None:
    network = small_network()
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    optimizer = torch.optim.SGD(parameter_groups(network, False), lr=0.5, weight_decay=0.1)
    sum(parameter.sum() * 0 for parameter in network.parameters()).backward()
    optimizer.step()
    for name, parameter in network.named_parameters():
        factor = 0.95 if parameter.ndim > 1 else 1.0
        torch.testing.assert_close(parameter.detach(), factor * before[name], msg=name)


def test_a_word_for_a_switch_is_named() -> None:
    with pytest.raises(UserError, match=r"optim.decay_norm_and_bias=never must be true or false"):
        parameter_groups(small_network(), "never")  # type: ignore[arg-type]
