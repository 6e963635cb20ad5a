"""The 1x1 convolution that trains as a matrix product gives what PyTorch's convolution gives."""

import copy
from collections.abc import Iterator

import pytest
import torch
from torch import nn
from torch.nn.utils import prune
from torch.utils._python_dispatch import TorchDispatchMode

from ranet import StagedNetwork, create_network
from ranet.models.papers.pointwise import PointwiseConv2d


def pointwise(network: nn.Module) -> Iterator[tuple[nn.Module, str, PointwiseConv2d]]:
    for parent in network.modules():
        for name, child in parent.named_children():
            if isinstance(child, PointwiseConv2d):
                yield parent, name, child


def plain(network: nn.Module) -> nn.Module:
    """A copy of the network with PyTorch's convolutions only."""
    network = copy.deepcopy(network)
    for parent, name, conv in list(pointwise(network)):
        replacement = nn.Conv2d(conv.in_channels, conv.out_channels, 1, bias=False)
        replacement.weight = conv.weight
        setattr(parent, name, replacement)
    return network


def train_step(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    logits: torch.Tensor = network(images)
    logits.square().sum().backward()
    return logits.detach()


@pytest.mark.parametrize("name", ["ranet_tiny", "msdnet_tiny", "ranet_small", "msdnet_small"])
def test_a_network_trains_as_with_plain_convolutions(name: str) -> None:
    torch.manual_seed(0)
    network = create_network(name).double().train()
    reference = plain(network)
    assert list(pointwise(network))
    assert not list(pointwise(reference))
    images = torch.randn(4, 3, network.image_size, network.image_size, dtype=torch.float64)

    torch.testing.assert_close(train_step(network, images), train_step(reference, images), rtol=1e-9, atol=1e-10)
    for (key, mine), theirs in zip(network.named_parameters(), reference.parameters(), strict=True):
        scale = theirs.grad.abs().max()
        assert (mine.grad - theirs.grad).abs().max() <= 1e-8 * scale + 1e-10, key
    assert network.state_dict().keys() == reference.state_dict().keys()
    for (key, mine), theirs in zip(network.state_dict().items(), reference.state_dict().values(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-10, msg=key)


class Operators(TorchDispatchMode):
    """The names of the operators that run."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.names.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def operators_of(conv: nn.Module, x: torch.Tensor) -> list[str]:
    with Operators() as operators:
        conv(x)
    return operators.names


class TestOneConvolution:
    conv = PointwiseConv2d(6, 4)
    x = torch.randn(3, 6, 5, 7)

    def test_trains_as_a_matrix_product_and_nowhere_else(self) -> None:
        conv = copy.deepcopy(self.conv).train()
        assert "bmm" in operators_of(conv, self.x)
        for module, x in [
            (copy.deepcopy(conv).eval(), self.x),
            (conv, self.x.to(memory_format=torch.channels_last)),
            (copy.deepcopy(conv).to("meta"), self.x.to("meta")),
        ]:
            names = operators_of(module, x)
            assert "convolution" in names
            assert "bmm" not in names

    def test_a_channel_prefix_is_read_without_a_copy(self) -> None:
        prefix = torch.randn(3, 9, 5, 7)[:, :6]
        assert not {"clone", "copy_"} & set(operators_of(self.conv.train(), prefix))
        torch.testing.assert_close(self.conv.train()(prefix), self.conv.eval()(prefix))

    def test_gradients(self) -> None:
        conv = PointwiseConv2d(3, 2).double().train()
        x = torch.randn(2, 3, 3, 4, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(lambda x, w: conv._conv_forward(x, w, None), (x, conv.weight))
        assert torch.autograd.gradgradcheck(lambda x, w: conv._conv_forward(x, w, None), (x, conv.weight))

    def test_autocast(self) -> None:
        with torch.autocast("cpu", torch.bfloat16):
            product, convolution = self.conv.train()(self.x), self.conv.eval()(self.x)
        assert product.dtype == convolution.dtype == torch.bfloat16
        # Six products are added up to less than 4; where each sum is rounded to 8 bits, each is off by 4 * 2**-9.
        torch.testing.assert_close(product, convolution, rtol=0, atol=6 * 4 * 2**-9)

    def test_hooks_and_pruning_work(self) -> None:
        conv = copy.deepcopy(self.conv).train()
        prune.l1_unstructured(conv, "weight", amount=0.5)  # which masks the weight in a hook before each call
        seen: list[torch.Size] = []
        conv.register_forward_hook(lambda module, inputs, output: seen.append(output.shape))
        out = conv(self.x)
        assert seen == [out.shape]
        torch.testing.assert_close(out, nn.functional.conv2d(self.x, conv.weight_orig * conv.weight_mask))

    def test_a_frozen_convolution_passes_the_gradient_on(self) -> None:
        conv = copy.deepcopy(self.conv).train().requires_grad_(False)
        x = self.x.clone().requires_grad_()
        conv(x).sum().backward()
        assert x.grad is not None
        assert conv.weight.grad is None


@pytest.mark.parametrize("name", ["ranet_tiny", "msdnet_tiny"])
def test_part_of_a_network_can_be_frozen(name: str) -> None:
    torch.manual_seed(0)
    network: StagedNetwork = create_network(name).train()
    modules = [conv for _, _, conv in pointwise(network)]
    modules[0].requires_grad_(False).eval()
    network(torch.randn(4, 3, network.image_size, network.image_size)).square().sum().backward()
    assert modules[0].weight.grad is None
    assert modules[1].weight.grad is not None
