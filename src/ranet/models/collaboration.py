"""Inline Subnetwork Collaboration: each exit builds on the logits of the one before (Li et al., ICCV 2019)."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn

from ranet.errors import UserError
from ranet.models.staged import LinearHeads, StagedNetwork, State, with_linear_heads
from ranet.models.staged_checks import check_attributes


class CollaborationLink(nn.Module):
    """The term that exit k + 1 adds to its logits, from the logits of exit k.

    The paper's exit is ``Linear(2 * F -> C)(cat[features, m])`` with ``m = ReLU(BN(Linear(C -> F)(logits)))``. A linear
    layer on a concatenation is the sum of two: the exit's own one on its features, and this one on m.

    Args:
        num_classes: number of classes C.
        features: length F of the feature vector of exit k + 1.
    """

    def __init__(self, num_classes: int, features: int) -> None:
        super().__init__()
        self.expand = nn.Linear(num_classes, features)
        self.norm = nn.BatchNorm1d(features)
        self.linear = nn.Linear(features, num_classes, bias=False)
        # As in a layer with 2 * F inputs; the exit's own half keeps the weights that it has.
        bound = 1 / math.sqrt(2 * features)
        nn.init.uniform_(self.linear.weight, -bound, bound)

    def forward(self, previous_logits: Tensor) -> Tensor:
        """Map the logits (B, C) of the exit before to the term for the logits of this one, (B, C)."""
        return self.linear(F.relu(self.norm(self.expand(previous_logits))))


class InlineCollaboration(LinearHeads):
    """A staged network whose exits use the predictions of the exits before them.

    Exit 0 answers as in the network; every later exit adds to its own logits a learned function of the logits of the
    exit before (``CollaborationLink``). So no head can be skipped. Source: Li et al., "Improved Techniques
    for Training Adaptive Deep Networks", ICCV 2019, section 3.2 (with ``detach``; its code trains without).

    Args:
        network: any network with linear heads and at least two exits; it becomes a part of this one, with its weights.
        detach: keep the losses of later exits from training the earlier heads through their logits.

    Raises:
        UserError: if the network has one exit, its heads have no linear layers, or its exits collaborate already.

    Example:
        >>> from ranet.models import create_network
        >>> network = InlineCollaboration(create_network("msdnet_cifar_budgeted_5", num_classes=100))
        >>> sum(p.numel() for module in network.after_features() for p in module.parameters())
        168436
    """

    def __init__(self, network: StagedNetwork, detach: bool = True) -> None:
        check_attributes(network)
        super().__init__(network.num_classes, network.image_size, network.image_shape[0])
        if isinstance(network, InlineCollaboration):
            raise UserError("The exits of this network collaborate already; wrap the network inside it.")
        if network.num_exits < 2:
            raise UserError("Collaboration is between exits, and this network has one; use a network with two or more.")
        self.network = with_linear_heads(network)
        self.detach = detach
        self.links = nn.ModuleList(
            CollaborationLink(network.num_classes, readout.in_features) for readout in self.network.readouts[1:]
        )

    @property
    def heads(self) -> nn.ModuleList:  # type: ignore[override]  # of the network inside, where they stay
        """The K exit heads."""
        return self.network.heads

    @property
    def optional_parts(self) -> tuple[str, ...]:  # type: ignore[override]
        """Names of the submodules that an image may go without, those of the network inside."""
        return tuple(f"network.{part}" for part in self.network.optional_parts)

    def stem(self, images: Tensor) -> State:
        """Return the stem's state, as the network inside does."""
        return self.network.stem(images)

    def advance(self, k: int, state: State) -> State:
        """Run the backbone to exit k, as the network inside does; the logits of exit k - 1 pass by."""
        if k == 0:
            return self.network.advance(k, state)
        return (*self.network.advance(k, state[:-1]), state[-1])

    def features(self, k: int, state: State) -> Tensor:
        """Return the features of head k, as the network inside does: (B, F_k)."""
        return self.network.features(k, state[:-1] if k else state)

    def answer(self, k: int, state: State) -> Tensor:
        """Return the logits (B, C) of exit k, from its features and the logits of exit k - 1."""
        logits = super().answer(k, state)
        if k == 0:
            return logits
        return logits + self.links[k - 1](state[-1].detach() if self.detach else state[-1])

    def carry(self, k: int, state: State, answer: Tensor) -> State:
        """Put the logits of exit k at the end of the state, in place of those of exit k - 1."""
        return (*(state[:-1] if k else state), answer)

    def after_features(self) -> list[nn.Module]:
        """Return the linear layers of the heads, and the links between them."""
        return [*super().after_features(), *self.links]
