"""Gradient Equilibrium against the gradients of the exits one by one, and against the authors' rule."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from ranet.errors import UserError
from ranet.models import InlineCollaboration, StagedNetwork, create_network
from ranet.training import forward_in_stages
from ranet.training.techniques.gradient_equilibrium import Equilibrium
from tests.training.networks import NAMES, batch, exact, gradients, gradients_per_exit, stage_of_parameters


def sum_of_losses(logits: Tensor, labels: Tensor) -> Tensor:
    return torch.stack([cross_entropy(exit_logits, labels) for exit_logits in logits]).sum()


def gradients_in_equilibrium(network: StagedNetwork, equilibrium: Equilibrium | None) -> dict[str, Tensor]:
    images, labels = batch()
    return gradients(network, sum_of_losses(forward_in_stages(network, images, equilibrium), labels))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("collaborates", [False, True])
def test_each_block_receives_the_mean_of_the_gradients_downstream_and_heads_theirs_in_full(
    name: str, collaborates: bool
) -> None:
    network = exact(name)
    stages = stage_of_parameters(network)
    if collaborates:  # detached, so that the losses reach the backbone through the features alone
        network = InlineCollaboration(network).double()
        stages = {f"network.{parameter}": stage for parameter, stage in stages.items()}
    per_exit = gradients_per_exit(network)
    received = gradients_in_equilibrium(network, "all")
    exits = network.num_exits
    assert set(stages.values()) == set(range(exits))
    rescaled = 0
    for parameter, gradient in received.items():
        each = torch.stack([gradients[parameter] for gradients in per_exit])
        stage = stages.get(parameter)
        expected = each.sum(dim=0) if stage is None else each[stage:].mean(dim=0)
        torch.testing.assert_close(gradient, expected, rtol=1e-6, atol=1e-9, msg=parameter)
        rescaled += not torch.allclose(each.sum(dim=0), expected, rtol=1e-3)
    assert rescaled > len(stages) / 2, "the plain sum is something else"


@pytest.mark.parametrize("name", NAMES)
def test_coarsest_is_the_rule_of_the_authors_code(name: str) -> None:
    """Behind block k the gradient of the coarsest map is divided by K - k, behind the head taken K - k - 1 times."""
    network = exact(name)
    images, labels = batch()

    def rescaled(maps: tuple[Tensor, ...], factor: float) -> tuple[Tensor, ...]:
        coarsest = maps[-1].clone()
        coarsest.register_hook(lambda gradient: gradient * factor)
        return (*maps[:-1], coarsest)

    losses = []
    maps = network.stem(images)
    for k in range(network.num_exits):
        maps = rescaled(network.advance(k, maps), 1 / (network.num_exits - k))
        losses.append(cross_entropy(network.answer(k, maps), labels))
        maps = rescaled(maps, network.num_exits - k - 1)
    expected = gradients(network, torch.stack(losses).sum())

    received = gradients_in_equilibrium(network, "coarsest")
    for parameter, gradient in received.items():
        torch.testing.assert_close(gradient, expected[parameter], rtol=1e-9, atol=1e-12, msg=parameter)
    everywhere = gradients_in_equilibrium(network, "all")
    assert any(not torch.allclose(received[name], everywhere[name]) for name in received)


def test_with_one_scale_the_coarsest_map_is_all_there_is() -> None:
    torch.manual_seed(0)
    network = create_network(
        "msdnet", num_classes=5, blocks=3, base=1, growth_factors=[1], bottleneck_factors=[1], channels=4
    ).double()
    coarsest = gradients_in_equilibrium(network, "coarsest")
    for parameter, gradient in gradients_in_equilibrium(network, "all").items():
        torch.testing.assert_close(gradient, coarsest[parameter], rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("equilibrium", ["all", "coarsest", None])
def test_the_forward_values_are_those_of_the_network(name: str, equilibrium: Equilibrium | None) -> None:
    network, images = exact(name), batch()[0]
    assert torch.equal(forward_in_stages(network, images, equilibrium), network(images))


@pytest.mark.parametrize("name", NAMES)
def test_without_equilibrium_the_gradients_are_those_of_the_network(name: str) -> None:
    network = exact(name)
    images, labels = batch()
    expected = gradients(network, sum_of_losses(network(images), labels))
    for parameter, gradient in gradients_in_equilibrium(network, None).items():
        assert torch.equal(gradient, expected[parameter]), parameter


@pytest.mark.parametrize("name", NAMES)
def test_no_activation_is_stored_for_it(name: str) -> None:
    network, images = exact(name), batch()[0]

    def stored(equilibrium: Equilibrium | None) -> tuple[int, int]:
        storages: dict[int, int] = {}
        tensors = 0

        def keep(tensor: Tensor) -> Tensor:
            nonlocal tensors
            tensors += 1
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            logits = forward_in_stages(network, images, equilibrium)
            count, size = tensors, sum(storages.values())
        assert logits.requires_grad
        return count, size

    assert stored("all") == stored(None)


@pytest.mark.parametrize("name", NAMES)
def test_under_autocast_gradients_are_rescaled_alike(name: str) -> None:
    network = exact(name).float()
    images, labels = batch()
    network.requires_grad_(False)
    weight = network.get_parameter("base.0.conv.weight").requires_grad_()

    def gradient(equilibrium: Equilibrium | None) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            logits = forward_in_stages(network, images.float(), equilibrium)
        assert logits.dtype == torch.bfloat16
        (found,) = torch.autograd.grad(sum_of_losses(logits.float(), labels), [weight])
        return found

    # The stem receives the mean of all exits: the sum divided by their number.
    expected = gradient(None) / network.num_exits
    difference = (gradient("all") - expected).norm() / expected.norm()
    assert difference < 0.1  # the rounding of bfloat16 on the way down


@pytest.mark.minutes  # to compile
@pytest.mark.parametrize("name", NAMES)
def test_it_compiles_into_one_graph(name: str) -> None:
    network = exact(name)
    images, labels = batch()
    torch._dynamo.reset()
    compiled = torch.compile(forward_in_stages, fullgraph=True)
    received = gradients(network, sum_of_losses(compiled(network, images, "all"), labels))
    expected = gradients_in_equilibrium(network, "all")
    for parameter, gradient in received.items():
        torch.testing.assert_close(gradient, expected[parameter], rtol=1e-6, atol=1e-9, msg=parameter)


def test_an_unknown_scope_is_refused() -> None:
    with pytest.raises(UserError, match="did you mean coarsest"):
        forward_in_stages(exact("msdnet"), batch()[0], "coarse")  # type: ignore[arg-type]
