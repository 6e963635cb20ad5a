"""Costs against the counts of the reference networks and against sums by hand."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

import ranet
from ranet import UserError, create_network, list_networks, measure_costs
from ranet.cost import Operations, count_operations
from ranet.models import network_preset


@pytest.fixture(scope="module")
def golden(shared: Path) -> list[dict[str, Any]]:
    return json.loads((shared / "spec" / "golden_costs.json").read_text())["networks"]


# Counting the largest takes seconds.
@pytest.mark.parametrize(
    "index", [pytest.param(i, marks=[pytest.mark.slow] if i in (11, 15, *range(17, 25)) else []) for i in range(25)]
)
def test_counts_are_those_of_the_reference_to_the_last_digit(golden: list[dict[str, Any]], index: int) -> None:
    assert len(golden) == 25
    expected = golden[index]
    options = dict(expected["config"])
    with torch.device("meta"):
        network = create_network(options.pop("network"), **options)
    costs = measure_costs(network)
    assert costs.parameters == expected["params"]
    assert costs.macs_per_exit == expected["macs_per_exit"]
    assert costs.paper_ops_per_exit == expected["paper_ops_per_exit"]
    lazy = expected.get("lazy_paper_mega_ops_per_exit")
    if lazy is not None:
        assert [ops / 1e6 for ops in costs.lazy_paper_ops_per_exit] == pytest.approx(lazy, rel=1e-3)


def test_every_published_configuration_has_a_preset(golden: list[dict[str, Any]]) -> None:
    def key(family: str, options: dict[str, Any]) -> tuple:
        names = ("blocks", "mode", "base", "step", "channels", "growth", "scale_list", "image_size")
        return family, *(tuple(v) if isinstance(v := options.get(n), list | tuple) else v for n in names)

    presets = {key(preset.family, preset.options) for preset in map(network_preset, list_networks())}
    for entry in golden:
        options = dict(entry["config"])
        assert key(options.pop("network"), options) in presets, entry["name"]


def test_skipping_heads_saves_what_the_heads_cost() -> None:
    with torch.device("meta"):
        network = create_network("ranet_imagenet_anytime")
    costs = measure_costs(network)
    assert round(costs.macs_per_exit[-1] / 1e6) == 3326
    assert round(costs.macs_per_exit_alone[-1] / 1e6) == 2150
    assert costs.macs_per_exit_alone[0] == costs.macs_per_exit[0]


def test_macs_and_paper_ops_of_a_head_by_hand() -> None:
    head = create_network("msdnet_tiny", num_classes=10).heads[0].to("meta").eval()
    channels = head.conv1.conv.in_channels
    images = torch.empty(1, channels, 8, 8, device="meta")
    macs = 9 * channels * 128 * 16 + 9 * 128 * 128 * 4 + 128 * 10
    relus, pooled, biases = 128 * 16 + 128 * 4, 128 * 4, 10
    counted, logits = count_operations(lambda: head(images))
    assert counted == Operations(macs, macs + relus + pooled + biases)
    assert logits.shape == (1, 10)


def test_costs_grow_with_the_image_and_do_not_depend_on_the_weights() -> None:
    network = create_network("msdnet_tiny")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network.lazy = True
    at_32, at_64 = measure_costs(network), measure_costs(network, image_size=64)
    assert network.lazy
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert at_32.macs_per_exit == measure_costs(create_network("msdnet_tiny")).macs_per_exit
    # All maps have four times the pixels; only the linear layers do not grow.
    linear = sum(head.linear.in_features * head.linear.out_features for head in network.heads)
    assert at_64.macs_per_exit[-1] - linear == 4 * (at_32.macs_per_exit[-1] - linear)
    with pytest.raises(UserError, match="at least 1"):
        measure_costs(network, image_size=0)


def test_lazy_costs_are_lower_before_the_last_exit_and_equal_there() -> None:
    costs = measure_costs(create_network("msdnet_cifar_budgeted_5"))
    pairs = list(zip(costs.lazy_macs_per_exit, costs.macs_per_exit, strict=True))
    assert all(lazy < whole for lazy, whole in pairs[:-1])
    assert pairs[-1][0] == pairs[-1][1]


def test_costs_are_written_as_json(tmp_path: Path) -> None:
    costs = measure_costs(create_network("ranet_tiny"))
    costs.save(tmp_path / "costs.json")
    written = json.loads((tmp_path / "costs.json").read_text())
    assert written["macs_per_exit"] == costs.macs_per_exit
    assert written["tables"]["macs"]["stages"][0] == costs.lazy_macs_per_exit_alone


class Distances(ranet.StagedNetwork):
    """An exit that compares features with learned points, by an operator without a formula."""

    def __init__(self) -> None:
        super().__init__(3, image_size=4)
        self.layer, self.points = nn.Conv2d(3, 2, 1), nn.Parameter(torch.randn(3, 2))
        self.num_exits = 1

    def stem(self, images: Tensor) -> tuple[Tensor, ...]:
        return (self.layer(images).mean((2, 3)),)

    def advance(self, k: int, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return state

    def answer(self, k: int, state: tuple[Tensor, ...]) -> Tensor:
        return -torch.cdist(state[0], self.points)


def test_an_operator_that_cannot_be_counted_is_named(caplog: pytest.LogCaptureFixture) -> None:
    costs = measure_costs(Distances())
    assert costs.macs_per_exit == [4 * 4 * 3 * 2]
    assert costs.uncounted == ("aten._cdist_forward",)
    assert (
        "lack what these operators multiply and add, for which there is no formula: aten._cdist_forward." in caplog.text
    )


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "swin_t", "densenet121"])
def test_ordinary_networks_are_counted_whole(name: str) -> None:
    network = torchvision.models.get_model(name, weights=None).eval().to("meta")
    counted, _ = count_operations(lambda: network(torch.empty(1, 3, 224, 224, device="meta")))
    assert not counted.uncounted
    published = torchvision.models.get_model_weights(name).DEFAULT.meta["_ops"]  # in billions of multiply-adds
    assert counted.macs / 1e9 == pytest.approx(published, rel=0.02, abs=0.002)
