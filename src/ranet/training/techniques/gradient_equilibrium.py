"""Gradient Equilibrium: every block receives the mean of its exits' gradients, not their sum (Li et al., ICCV 2019)."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from ranet.errors import unknown_name
from ranet.models.staged import StagedNetwork, State
from ranet.models.staged_checks import check_attributes

Equilibrium = Literal["all", "coarsest"]


class _RescaledGradient(torch.autograd.Function):
    """The identity with a gradient that is multiplied by a factor; only the factor is stored for the backward pass."""

    @staticmethod
    def forward(x: Tensor, factor: float) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, float], output: Tensor) -> None:
        ctx.factor = inputs[1]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] * ctx.factor, None


def rescale_gradient(x: Tensor, factor: float) -> Tensor:
    """Return x, with its gradient multiplied by the factor in the backward pass.

    Example:
        >>> x = torch.tensor(2.0, requires_grad=True)
        >>> (rescale_gradient(x, 0.25) ** 2).backward()
        >>> x.grad  # a quarter of 2 * x
        tensor(1.)
    """
    return _RescaledGradient.apply(x, factor)


def forward_in_stages(network: StagedNetwork, images: Tensor, equilibrium: Equilibrium | None = None) -> Tensor:
    """Run a network stage by stage, with the gradients of its exits in equilibrium.

    Each of the K exits sends a gradient into the backbone before it, so the first block would receive the sum of K.
    Here block k = 0 .. K - 1 receives ``(g_k + (K - k - 1) * g_{k+1}) / (K - k)``, where g_k is the gradient of its own
    head and g_{k+1} that of the next block's output. This is the mean of the gradients of all later exits. The heads
    receive their full gradients, and the forward pass does not change. Source: Li et al., "Improved Techniques for
    Training Adaptive Deep Networks", ICCV 2019, section 3.1.

    Args:
        network: any staged network.
        images: (B, 3, H, W).
        equilibrium: "all" rescales every tensor of the state, which makes the mean exact; "coarsest" only the map that
            the head reads (in MSDNet the coarsest scale), as the authors' code does; None rescales nothing.

    Returns:
        The logits of every exit, (K, B, C).

    Raises:
        UserError: if the equilibrium is unknown, or the network is not a staged network.

    Example:
        >>> from ranet.models import create_network
        >>> network = create_network("ranet_tiny")
        >>> forward_in_stages(network, torch.randn(2, 3, 32, 32), equilibrium="all").shape
        torch.Size([6, 2, 10])
    """
    check_attributes(network)
    return logits_and_last_state(network, images, equilibrium)[0]


def logits_and_last_state(
    network: StagedNetwork, images: Tensor, equilibrium: Equilibrium | None
) -> tuple[Tensor, State]:
    """Return the logits of ``forward_in_stages``, and the state at the last exit."""
    if equilibrium not in ("all", "coarsest", None):
        raise unknown_name("equilibrium", str(equilibrium), ["all", "coarsest"])
    exits = network.num_exits
    answers: list[Tensor] = []

    def rescaled(state: State, factor: float) -> State:
        maps = [tensor for tensor in state if not any(tensor is answer for answer in answers)]
        chosen = maps if equilibrium == "all" else maps[-1:]
        return tuple(
            rescale_gradient(tensor, factor) if any(tensor is each for each in chosen) else tensor for tensor in state
        )

    def fork(k: int, state: State) -> tuple[State, State]:
        left = exits - k  # exits from here on
        return (rescaled(state, 1 / left), rescaled(state, (left - 1) / left)) if left > 1 else (state, state)

    last: State = ()
    for _, state, answer in network.walk(images, fork if equilibrium and torch.is_grad_enabled() else None):
        answers.append(answer)
        last = state
    return torch.stack(answers), last
