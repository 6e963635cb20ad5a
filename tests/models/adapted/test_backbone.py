"""Exits on any backbone: cut is uncut, to the bit; the state is what is needed; what cannot be cut says why."""

import copy
import importlib
import pickle
from typing import Any

import pytest
import torch
import torchvision
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from ranet import InlineCollaboration, UserError, add_exits, create_network, measure_costs
from ranet.inference.stages.prepared import prepared
from ranet.models import LinearHeads, SingleExit, StagedNetwork, network_fingerprint
from ranet.models.adapted.heads import ClassToken, Mean
from ranet.models.staged_checks import check_network

CLASSES = 5
#: Edge of the images, and places beside "auto".
TORCHVISION: dict[str, tuple[int, list[str]]] = {
    "resnet18": (64, ["layer1", "layer2.0", "layer3.1.conv1"]),
    "mobilenet_v3_small": (64, ["features.3", "features.6.block.1"]),
    "mobilenet_v2": (64, ["features.4", "features.7.conv.0.0"]),
    "resnext50_32x4d": (64, ["layer1.1", "layer3"]),
    "regnet_y_400mf": (64, ["trunk_output.block1", "trunk_output.block3.block3-2"]),
    "efficientnet_b0": (64, ["features.2", "features.5.1.block.1"]),
    "convnext_tiny": (64, ["features.1", "features.5.4"]),
    "densenet121": (64, ["features.transition1", "features.denseblock3.denselayer4", "features.transition3"]),
    "vit_b_16": (32, ["encoder.layers.encoder_layer_2", "encoder.layers.encoder_layer_7.ln_2"]),
    "swin_t": (64, ["features.1", "features.5.2"]),
    "shufflenet_v2_x0_5": (64, ["stage2", "stage3.2"]),
    "squeezenet1_1": (64, ["features.4", "features.9"]),
}
QUICK = ("resnet18", "mobilenet_v3_small")
TIMM: dict[str, tuple[int, list[str]]] = {
    "tf_efficientnet_lite0": (64, ["blocks.1", "blocks.4.1"]),
    "mobilenetv4_conv_small": (64, ["blocks.1", "blocks.2.3"]),
    "hgnetv2_b0": (64, ["stages.0", "stages.2"]),
    "deit_tiny_patch16_224": (64, ["blocks.3", "blocks.8.norm2"]),
}


def backbone(name: str) -> nn.Module:
    """A classifier with random weights, and statistics as if it had been trained."""
    torch.manual_seed(0)
    if name in TIMM:
        timm = pytest.importorskip("timm", reason="needs the extra timm")
        size = {"img_size": TIMM[name][0]} if "deit" in name else {}
        network: nn.Module = timm.create_model(name, num_classes=CLASSES, **size)
    else:
        size = {"image_size": TORCHVISION[name][0]} if name.startswith("vit") else {}
        network = torchvision.models.get_model(name, weights=None, num_classes=CLASSES, **size)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)  # type: ignore[union-attr, operator]
                module.running_var.uniform_(0.5, 1.5)  # type: ignore[union-attr, operator]
        for parameter in network.parameters():
            if not parameter.any():  # heads that start at zero would answer alike
                parameter.normal_(0, 0.02)
    return network.eval()


def run_from_states_alone(network: StagedNetwork, images: Tensor) -> list[Tensor]:
    """The answers, with nothing kept from stage to stage but copies of the state, as of images that were queued."""
    answers = []
    state = network.stem(images)
    for k in range(network.num_exits):
        state = network.advance(k, tuple(tensor.clone() for tensor in state))
        assert all(tensor.is_floating_point() and len(tensor) == len(images) for tensor in state)
        answers.append(network.answer(k, state))
    return answers


FAMILIES = [
    pytest.param(name, where, marks=[] if name in QUICK else [pytest.mark.slow])
    for name, (_, places) in {**TORCHVISION, **TIMM}.items()
    for where in ("auto", places)
]


@pytest.mark.parametrize(("name", "where"), FAMILIES)
def test_cut_is_uncut_to_the_bit(name: str, where: Any) -> None:
    classifier = backbone(name)
    edge = {**TORCHVISION, **TIMM}[name][0]
    images = torch.randn(3, 3, edge, edge)
    with torch.no_grad():
        expected = classifier(images)
        assert expected.std() > 0
        network = add_exits(classifier, at=where, input_size=(3, edge, edge))
        assert network.num_exits == (4 if where == "auto" else len(where) + 1)
        assert (network.num_classes, network.image_shape) == (CLASSES, (3, edge, edge))
        answers = network(images)
        assert torch.equal(answers[-1], expected)
        for answer, alone in zip(answers, run_from_states_alone(network, images), strict=True):
            assert torch.equal(answer, alone)
        folded = prepared(network)(images)
    torch.testing.assert_close(folded, answers, rtol=1e-4, atol=1e-4 * float(answers.abs().max()))
    check_network(network)
    assert isinstance(network, LinearHeads) == (name != "squeezenet1_1")
    costs = measure_costs(network)
    assert costs.macs_per_exit_alone == sorted(costs.macs_per_exit_alone)
    if where == "auto" and name != "densenet121":  # within its blocks many maps are alive
        shares = [cost / costs.macs_per_exit[-1] for cost in costs.macs_per_exit]
        assert all(abs(share - (k + 1) / 4) < 0.15 for k, share in enumerate(shares))


@pytest.mark.parametrize(
    ("name", "place", "shapes"),
    [
        ("resnet18", "layer2", [(128, 8, 8)]),
        ("resnet18", "layer1.0.conv1", [(64, 16, 16), (64, 16, 16)]),  # the shortcut is alive beside it
        ("resnet18", "layer2.0.bn2", [(128, 8, 8), (64, 16, 16)]),
        ("resnet18", "flatten", [(512,)]),
        ("resnet18", "layer3_1_bn2", [(256, 4, 4), (256, 4, 4)]),  # a node of the graph
        ("mobilenet_v3_small", "features.1.block.1.fc1", [(8, 1, 1), (16, 16, 16)]),
    ],
)
def test_the_state_is_what_is_alive(name: str, place: str, shapes: list[tuple[int, ...]]) -> None:
    network = add_exits(backbone(name), at=place, input_size=(3, 64, 64))
    with torch.no_grad():
        state = network.advance(0, network.stem(torch.randn(2, 3, 64, 64)))
    assert [tuple(tensor.shape[1:]) for tensor in state] == shapes


class Random(nn.Module):
    """Convolutions that each add some of the maps before, drawn at random; with shapes and in-place operations."""

    def __init__(self, reads: list[list[int]]) -> None:
        super().__init__()
        self.reads = reads
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.Dropout(0.1)) for _ in reads
        )
        self.act = nn.ReLU(inplace=True)
        self.scale = nn.Parameter(torch.rand(3, 1, 1))
        self.fc = nn.Linear(3, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        count, _, height, _ = x.shape
        token = self.scale.expand(count, -1, -1, -1)
        maps = [x]
        for layer, reads in zip(self.layers, self.reads, strict=True):
            total = layer(maps[reads[0]])
            for i in reads[1:]:
                total = total + maps[i] * token
            maps.append(self.act(total))
        return self.fc(maps[-1].sum(dim=(2, 3)) / (height * count))


@st.composite
def wirings(draw: st.DrawFn) -> tuple[list[list[int]], list[str]]:
    depth = draw(st.integers(2, 6))
    reads = [draw(st.lists(st.integers(0, i), min_size=1, max_size=3, unique=True)) for i in range(depth)]
    inside = ["", ".0", ".1"]
    names = [f"layers.{i}{part}" for i in range(depth) for part in inside]
    return reads, draw(st.lists(st.sampled_from(names), min_size=1, max_size=4, unique=True))


@given(wirings())
def test_any_places_of_any_network(drawn: tuple[list[list[int]], list[str]]) -> None:
    """Places in unused branches, too; the network is the same in training, and learns the same."""
    reads, places = drawn
    torch.manual_seed(0)
    classifier = Random(reads)
    other, images = copy.deepcopy(classifier), torch.randn(4, 3, 6, 6)
    network = add_exits(classifier, at=places, input_size=(3, 6, 6))
    torch.manual_seed(1)
    answers = network(images)
    torch.manual_seed(1)
    expected = other(images)
    assert torch.equal(answers[-1], expected)
    gradients = [
        torch.autograd.grad(logits.square().sum(), [*module.parameters()], allow_unused=True, materialize_grads=True)
        for logits, module in ((answers[-1], classifier), (expected, other))
    ]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)  # sums in another order
    for one, two in zip(classifier.buffers(), other.buffers(), strict=True):
        assert torch.equal(one, two)
    network.eval(), other.eval()
    with torch.no_grad():
        assert torch.equal(network(images)[-1], other(images))
        for batch in (1, 4):
            each = run_from_states_alone(network, images[:batch])
            for alone, answer in zip(each, network(images[:batch]), strict=True):
                assert torch.equal(alone, answer)
        torch.testing.assert_close(prepared(network)(images), network(images), rtol=1e-4, atol=1e-5)


def test_heads_learn_and_a_frozen_backbone_stays() -> None:
    network = add_exits(backbone("resnet18"), at=["layer1", "layer2"], head="conv", input_size=(3, 64, 64))
    network.backbone.requires_grad_(False)
    network(torch.randn(2, 3, 64, 64))[:-1].square().sum().backward()
    trained = {name for name, parameter in network.named_parameters() if parameter.grad is not None}
    assert trained == {name for name, _ in network.named_parameters() if name.startswith("heads.")}
    assert {name.removeprefix("backbone.") for name in network.state_dict() if name.startswith("backbone.")} == set(
        torchvision.models.resnet18().state_dict()
    )


def test_what_is_changed_in_place_is_the_next_stages_own_copy() -> None:
    network = add_exits(backbone("resnet18"), at=["bn1", "layer1.0.bn1"], input_size=(3, 64, 64), head="conv").train()
    logits = network(torch.randn(2, 3, 64, 64))
    logits.square().sum().backward()  # in place, it would change what the head's convolution has read
    state = network.advance(0, network.stem(torch.randn(2, 3, 64, 64)))
    before = state[0].clone()
    network.advance(1, state)
    assert torch.equal(state[0], before)


class Functional(nn.Module):
    """Decides in its forward what it does in training alone."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(12, 8), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x.flatten(1))
        return self.second(nn.functional.dropout(x, 0.5, training=self.training))


def test_what_the_code_does_in_training_alone() -> None:
    network = add_exits(Functional(), at=["first"], input_size=(3, 2, 2))
    other, images = copy.deepcopy(network.backbone), torch.randn(6, 3, 2, 2)
    for mode in (True, False):
        network.train(mode), other.train(mode)
        answers = []
        for each in (network, other):
            torch.manual_seed(3)
            answers.append(each(images))
        assert torch.equal(answers[0][-1], answers[1])
        assert torch.equal(network(images)[-1], network(images)[-1]) != mode
    network.train().backbone.eval()  # as where it is frozen
    assert torch.equal(network(images)[-1], network(images)[-1])


def test_copies_files_and_types() -> None:
    network = add_exits(backbone("mobilenet_v3_small"), at=["features.4"], input_size=(3, 64, 64))
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = network(images)
        other = backbone("mobilenet_v3_small")
        torch.manual_seed(1)
        again = add_exits(other, at=["features.4"], input_size=(3, 64, 64))
        assert not torch.equal(again(images)[0], expected[0])
        again.load_state_dict(network.state_dict())
        for other in (copy.deepcopy(network), pickle.loads(pickle.dumps(network)), again):
            assert torch.equal(other(images), expected)
            assert network_fingerprint(other) == network_fingerprint(network)
        other = copy.deepcopy(network).double()
        torch.testing.assert_close(other(images.double()).float(), expected, rtol=1e-4, atol=1e-4)
        assert copy.deepcopy(network).bfloat16()(images.bfloat16()).dtype == torch.bfloat16
        for parameter in other.parameters():
            parameter.zero_()
        assert torch.equal(network(images), expected)


def test_two_cuts_are_two_networks() -> None:
    marks = set()
    for at in (["layer1.0"], ["layer1.1"], ["layer1.0.bn1"], ["layer1.0", "layer1.1"]):
        network = add_exits(backbone("resnet18"), at=at, input_size=(3, 64, 64))
        with torch.no_grad():
            for parameter in network.heads.parameters():
                parameter.fill_(0.5)
        marks.add(network_fingerprint(network))
    assert len(marks) == 4


def test_exits_collaborate() -> None:
    network = InlineCollaboration(add_exits(backbone("resnet18"), at=["layer1", "layer3"], input_size=(3, 64, 64)))
    check_network(network)
    assert [layer.in_features for layer in network.readouts] == [64, 256, 512]
    assert network.train()(torch.randn(2, 3, 64, 64)).shape == (3, 2, CLASSES)
    assert measure_costs(network).num_exits == 3
    plain = add_exits(backbone("squeezenet1_1"), at=["features.4"], input_size=(3, 64, 64))
    with pytest.raises(UserError, match="does not derive from ranet"):
        InlineCollaboration(plain)


class Tokens(nn.Module):
    """A transformer in small, with or without a class token, which comes late."""

    def __init__(self, with_class: bool) -> None:
        super().__init__()
        self.patch, self.fc = nn.Conv2d(3, 8, 4, 4), nn.Linear(8, CLASSES)
        self.blocks = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))
        self.cls_token = nn.Parameter(torch.randn(1, 1, 8)) if with_class else None

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks[0](self.patch(x).flatten(2).transpose(1, 2))
        if self.cls_token is not None:
            x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], dim=1)
        return self.fc(self.blocks[2](self.blocks[1](x))[:, 0])


def test_heads_read_class_tokens_or_the_mean() -> None:
    kinds = []
    for with_class in (True, False):
        network = add_exits(Tokens(with_class), at=["blocks.0", "blocks.1"], input_size=(3, 16, 8))
        kinds += [type(head.read[-1]) for head in list(network.heads)[:-1]]  # type: ignore[union-attr, index]
    assert kinds == [Mean, ClassToken, Mean, Mean]
    with pytest.raises(UserError, match=r'head="conv" reads maps, and blocks.0 gives \(8, 8\)'):
        add_exits(Tokens(False), at=["blocks.0"], head="conv", input_size=(3, 16, 8))


@pytest.mark.parametrize("head", ["linear", pytest.param("conv", marks=pytest.mark.slow)])
def test_heads_on_maps_with_the_channels_last(head: str) -> None:
    network = add_exits(backbone("swin_t"), at=["features.1", "features.3"], head=head, input_size=(3, 64, 64))
    assert [layer.in_features for layer in network.readouts] == [96, 192, 768]  # type: ignore[attr-defined]
    assert network(torch.randn(2, 3, 64, 64)).shape == (3, 2, CLASSES)


def test_a_head_of_ones_own() -> None:
    seen = []

    def head(shape: tuple[int, ...], classes: int) -> nn.Module:
        seen.append(shape)
        return nn.Sequential(nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(shape[0], classes))

    network = add_exits(backbone("resnet18"), at=["layer1"], head=head, input_size=(3, 64, 64))
    assert seen == [(64, 16, 16)]
    assert isinstance(network, LinearHeads)
    plain = add_exits(
        backbone("resnet18"), ["layer1"], lambda shape, classes: nn.Sequential(head(shape, classes)), (3, 64, 64)
    )
    assert not isinstance(plain, LinearHeads)
    for wrong, message in (
        (lambda shape, classes: nn.Flatten(), r"must return logits \(images, 5\), and returns \(2, 16384\)"),
        (lambda shape, classes: nn.Linear(7, classes), r"cannot read \(64, 16, 16\) for each image"),
        (lambda shape, classes: None, "must make an nn.Module"),
        ("linaer", "did you mean linear"),
    ):
        with pytest.raises(UserError, match=message):
            add_exits(backbone("resnet18"), at=["layer1"], head=wrong, input_size=(3, 64, 64))  # type: ignore[arg-type]


def test_a_staged_network_of_one_exit_is_a_backbone() -> None:
    classifier = SingleExit(backbone("resnet18"), CLASSES, 64).eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = classifier(images)[0]
        network = add_exits(classifier, at=["module.layer2"], input_size=(3, 64, 64))
        assert torch.equal(network(images)[-1], expected)
    with pytest.raises(UserError, match="has 5 exits already"):
        add_exits(create_network("msdnet_cifar_budgeted_5"), input_size=(3, 32, 32))


class Loop(nn.Module):
    """What cannot be cut somewhere, or anywhere."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.conv, self.twice, self.unused = nn.Conv2d(3, 3, 1), nn.Sequential(nn.Conv2d(3, 3, 1)), nn.ReLU()
        self.inner = Inner(kind)
        self.fc = nn.Linear(3, CLASSES)
        self.kind = kind

    def forward(self, x: Tensor) -> Any:
        x = self.twice(self.twice(self.conv(x)))
        chosen = x > 0
        x = self.inner(x)
        if self.kind == "root" and x.sum() > 0:
            x = -x
        x = self.fc((x * chosen).mean(dim=(2, 3)))
        return (x, x) if self.kind == "tuple" else x


class Inner(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.act, self.kind = nn.ReLU(), kind

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(x)
        if self.kind == "inner" and x.shape[2] > 0:
            x = -x
        if self.kind == "data" and x.sum() > 0:
            x = -x
        return x


@pytest.mark.parametrize(
    ("kind", "at", "message"),
    [
        ("", ["cnov"], "Unknown place in Loop 'cnov'; did you mean conv"),
        ("", ["twice"], "Loop cannot be cut at twice, because it runs 2 times for the same images"),
        ("", ["unused"], "cannot be cut at unused, because it does not run when images are classified"),
        ("", ["inner"], "cannot be cut at inner, because gt, a tensor of type bool, crosses the cut"),
        ("", ["fc"], "cannot be cut at fc, because it is the end of the network"),
        ("", ["inner", "inner.act"], "inner and inner.act end at the same place"),
        ("", ["gt"], "cannot be cut at gt, because gt, a tensor of type bool"),
        ("", [], r"at=\[\] names no place"),
        ("", "auto", "too few places along its cost where one map is all that is alive, for 3 added exits"),
        ("inner", ["inner.act"], r"is inside inner, which runs as one \(test_backbone.py, line \d+, .*control flow\)"),
        (
            "root",
            ["conv"],
            r"Loop cannot be cut, because torch.fx cannot trace its forward \(test_backbone.py, line \d+",
        ),
        (
            "data",
            ["conv"],
            r"cannot run on images \(2, 3, 4, 4\) \(test_backbone.py, .*item.*that decides by their shape",
        ),
        ("tuple", ["conv"], r"must return logits \(images, classes\); in evaluation mode it returned a tuple"),
    ],
)
def test_what_cannot_be_cut_says_where_and_why(kind: str, at: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        add_exits(Loop(kind), at=at, input_size=(3, 4, 4))


def test_a_part_that_cannot_be_traced_runs_as_one() -> None:
    classifier, images = Loop("inner").eval(), torch.randn(3, 3, 4, 4)
    with torch.no_grad():
        expected = classifier(images)
        assert torch.equal(add_exits(classifier, at=["conv"], input_size=(3, 4, 4))(images)[-1], expected)


def test_other_wrong_input() -> None:
    for given_, message in (
        ((nn.ReLU(),), "needs an nn.Module with parameters"),
        (("resnet18",), "needs an nn.Module with parameters"),
        ((Loop(""), ["conv"], "linear", (3, 4)), "must be \\(channels, height, width\\)"),
        ((Loop(""), ["conv"], "linear", (4, 4, 4)), "cannot run on images \\(2, 4, 4, 4\\)"),
        ((Loop(""), "auto", "linear", (3, 4, 4), 1), "num_exits=1 must be at least 2"),
    ):
        with pytest.raises(UserError, match=message):
            add_exits(*given_)  # type: ignore[arg-type]


def test_it_is_public() -> None:
    assert importlib.import_module("ranet").add_exits is importlib.import_module("ranet.models").add_exits
