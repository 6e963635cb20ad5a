"""Small networks of both families in double precision, and what the techniques' tests measure on them."""

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ranet.models import StagedNetwork, create_network

NAMES = ("msdnet", "ranet")
SMALL = {
    "msdnet": {"blocks": 4, "mode": "even", "base": 1, "step": 1, "channels": 4, "growth": 2},
    "ranet": {"channels": 4, "growth": 4, "mode": "even", "step": 1},
}


def exact(name: str, seed: int = 0) -> StagedNetwork:
    """A network in float64 and training mode, whose batch normalisation does something."""
    torch.manual_seed(seed)
    network = create_network(name, num_classes=5, **SMALL[name]).double()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    return network.train()


def batch(images: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return (
        torch.randn(images, 3, 32, 32, generator=generator, dtype=torch.float64),
        torch.randint(5, (images,), generator=generator),
    )


def gradients(network: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    """The gradient of every parameter, zeros where the loss does not reach it."""
    names, parameters = zip(*network.named_parameters(), strict=True)
    found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    return {
        name: torch.zeros_like(parameter) if gradient is None else gradient
        for name, parameter, gradient in zip(names, parameters, found, strict=True)
    }


def gradients_per_exit(network: StagedNetwork) -> list[dict[str, Tensor]]:
    """For each exit, what its cross-entropy alone gives every parameter, without any technique."""
    images, labels = batch()
    return [gradients(network, cross_entropy(logits, labels)) for logits in network(images)]


def stage_of_parameters(network: StagedNetwork) -> dict[str, int]:
    """The stage that each parameter of the backbone works in, seen by running it; the stem belongs to stage 0."""
    stages: dict[str, int] = {}
    now = 0

    def used(name: str) -> None:
        for parameter, _ in network.get_submodule(name).named_parameters(recurse=False):
            assert stages.setdefault(f"{name}.{parameter}", now) == now, "used in two stages"

    handles = [
        module.register_forward_pre_hook(lambda _module, _inputs, name=name: used(name))
        for name, module in network.named_modules()
        if not name.startswith("heads")
    ]
    with torch.no_grad():
        state = network.stem(batch()[0])
        for now in range(network.num_exits):
            state = network.advance(now, state)
    for handle in handles:
        handle.remove()
    return stages
