"""An ordinary classifier keeps the contract of staged networks, and is told from every other one."""

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.fx import symbolic_trace

from ranet import ExitScores, UserError, measure_costs
from ranet.models import SingleExit, network_fingerprint
from ranet.models.staged_checks import check_network


def resnet() -> SingleExit:
    torch.manual_seed(0)
    network = torchvision.models.resnet18(weights=None, num_classes=7)
    return SingleExit(network, num_classes=7, image_size=(24, 40)).eval()


def test_it_is_a_network_of_one_exit() -> None:
    network = resnet()
    check_network(network)
    images = torch.randn(2, *network.image_shape)
    with torch.no_grad():
        expected = network.module(images)
        assert torch.equal(network(images), expected[None])
        assert torch.equal(network.forward_to(images, 0), expected)
    assert (network.num_exits, network.image_shape) == (1, (3, 24, 40))
    scores = ExitScores.collect(network, [(images, torch.tensor([0, 1]))])
    np.testing.assert_array_equal(scores.prediction, expected.argmax(dim=1).numpy()[None])


def test_its_cost_is_that_of_the_classifier() -> None:
    network = SingleExit(nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(16, 5)), 5, 4, in_channels=1)
    assert measure_costs(network).macs_per_exit == [4 * 4 * 9 + 16 * 5]


def test_an_answer_of_another_shape_is_named() -> None:
    with pytest.raises(UserError, match=r"must return logits \(images, num_classes\), here \(2, 8\)"):
        check_network(SingleExit(resnet().module, num_classes=8, image_size=24))


class Twice(nn.Module):
    """The same layers, one after the other or side by side."""

    def __init__(self, apart: bool) -> None:
        super().__init__()
        self.first, self.second, self.pool = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), nn.AdaptiveAvgPool2d(1)
        self._apart = apart  # leaves no trace in the settings

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x) + self.second(x) if self._apart else self.second(self.first(x))
        return self.pool(x).flatten(1)


class Chained(Twice):
    def forward(self, x: Tensor) -> Tensor:
        return self.pool(self.second(self.first(x))).flatten(1)


class Beside(Twice):
    def forward(self, x: Tensor) -> Tensor:
        return self.pool(self.first(x) + self.second(x)).flatten(1)


def test_another_wiring_is_another_network() -> None:
    """Of classes by their code, of graphs by what was traced."""
    weights = Twice(apart=True).state_dict()
    made = [Chained(False), Beside(False)]
    traced = [symbolic_trace(Twice(apart)) for apart in (True, False)]
    for same in ([*made], [*traced]):
        for module in same:
            module.load_state_dict(weights)
        one, other = (network_fingerprint(SingleExit(module, 3, 8)) for module in same)
        assert one != other
