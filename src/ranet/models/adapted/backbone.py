"""Any classifier that torch.fx can trace as a staged network: cut at some places, with a new head at each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from torch import Tensor, fx, nn

from ranet.errors import UserError
from ranet.models.adapted.cutting import Program, alive, compiled, program
from ranet.models.adapted.heads import AddedHead, BackboneHead, MakeHead, make_head
from ranet.models.adapted.places import Place, even_places, named_places
from ranet.models.adapted.tracing import Traced, trace
from ranet.models.staged import LinearHeads, StagedNetwork, State
from ranet.support.shapes import checked_image_size


class BackboneWithExits(StagedNetwork):
    """A classifier with added exits before its own answer, made by `add_exits`.

    The classifier stays as it is, weights and their names included; only the order in which its modules are called is
    that of the programs.

    Args:
        backbone: the classifier.
        heads: of the K exits, each for the first tensor of the state there.
        programs: for evaluation and for training mode, those of the K stages.
        places: names of the places of the added exits.
        foldable: paths of convolutions and of the batch normalisation that alone reads each.
        num_classes: C.
        shape: (in_channels, H, W) of the images.

    Attributes:
        code: of the programs in evaluation mode.
    """

    def __init__(
        self,
        backbone: nn.Module,
        heads: Sequence[nn.Module],
        programs: tuple[list[Program], list[Program]],
        places: Sequence[str],
        foldable: Sequence[tuple[str, str]],
        num_classes: int,
        shape: Sequence[int],
    ) -> None:
        super().__init__(num_classes, checked_image_size(shape[1:]), shape[0])
        self.backbone = backbone
        self.heads = nn.ModuleList(heads)
        self.places = tuple(places)
        self.code = [each.source for each in programs[0]]
        self.foldable = tuple(foldable)
        self._programs = programs

    def stem(self, images: Tensor) -> State:
        """Return the images."""
        return (images,)

    def advance(self, k: int, state: State) -> State:
        """Run the classifier from one cut to the next: what head k reads comes first."""
        return self._programs[self.backbone.training][k](self.backbone, *state)

    def answer(self, k: int, state: State) -> Tensor:
        """Return the logits (B, C) of exit k."""
        return self.heads[k](state[0])


class BackboneWithLinearExits(BackboneWithExits, LinearHeads):
    """The same where all heads, that of the classifier included, end in linear layers."""

    def features(self, k: int, state: State) -> Tensor:
        """Return what the linear layer of head k reads: (B, F_k)."""
        return cast(AddedHead | BackboneHead, self.heads[k]).features(state[0])


def add_exits(
    backbone: nn.Module,
    at: str | Sequence[str] = "auto",
    head: str | MakeHead = "linear",
    input_size: Sequence[int] = (3, 224, 224),
    num_exits: int = 4,
) -> BackboneWithExits:
    """Cut a classifier at some places, and add an exit with a new head at each; its own answer is the last exit.

    In evaluation mode the last exit answers what the classifier answers, to the bit. The new heads must be trained.

    Args:
        backbone: a classifier from torchvision, timm or your own that torch.fx can trace, from images to logits (B, C).
            It becomes a part of the network, with its weights.
        at: where to cut: behind modules, by path ("layer1", "features.4"), or behind nodes of torch.fx's graph, by
            their names; "auto" for the places that part its multiply-adds evenly.
        head: "linear" (pooling and a linear layer), "conv" (a small convolution before), or a function that makes a
            module from the shape of a map, without the batch, and the number of classes.
        input_size: shape (in_channels, H, W) of the images.
        num_exits: number of exits K, the last included; for at="auto".

    Returns:
        The network. If the classifier ends in an nn.Linear, and all heads do, it has `LinearHeads`.

    Raises:
        UserError: if the classifier cannot be traced, or cannot be cut there; the message says why.

    Example:
        >>> import torch
        >>> small = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5))
        >>> network = add_exits(small, at=["1"], input_size=(3, 8, 8))
        >>> network(torch.zeros(2, 3, 8, 8)).shape, [layer.in_features for layer in network.readouts]
        (torch.Size([2, 2, 5]), [4, 144])
    """
    shape = _checked(backbone, input_size)
    modes = trace(backbone, shape)
    evaluated = modes[0]
    if at == "auto":
        if num_exits < 2:
            raise UserError(f"num_exits={num_exits} must be at least 2: an added exit, and the backbone's own answer.")
        places = even_places(evaluated, backbone, num_exits - 1)
    else:
        places = named_places(evaluated, backbone, [at] if isinstance(at, str) else at)
    names = [place.name for place in places]
    last = _last_linear(modes[0], backbone)
    last = last if _last_linear(modes[1], backbone) == last else None
    evaluation, training = (
        _stages(traced, places if traced is evaluated else named_places(traced, backbone, names), last)
        for traced in modes
    )
    classes = evaluated.values[0][evaluated.answer].shape[1]
    token = [_has_class_token(place.node) for place in places]
    shapes = [tuple(evaluated.values[0][place.node].shape[1:]) for place in places]
    added = [make_head(head, *each, classes, shape) for each in zip(names, shapes, token, strict=True)]
    linear = last is not None and all(isinstance(each, AddedHead) for each in added)
    own = nn.Identity() if last is None else BackboneHead(backbone, last)
    network = (BackboneWithLinearExits if linear else BackboneWithExits)(
        backbone,
        [*added, own],
        ([compiled(graph) for graph in evaluation], [compiled(graph) for graph in training]),
        names,
        _foldable(evaluation, evaluated, backbone),
        classes,
        shape,
    )
    parameter = next(backbone.parameters())
    network.heads.to(parameter.device, parameter.dtype).train(backbone.training)
    network.training = backbone.training
    return network


def _checked(backbone: Any, input_size: Any) -> tuple[int, int, int]:
    """Return the shape of the images."""
    if not isinstance(backbone, nn.Module) or next(backbone.parameters(), None) is None:
        raise UserError(f"add_exits needs an nn.Module with parameters, not {type(backbone).__name__}.")
    if isinstance(backbone, StagedNetwork) and backbone.num_exits > 1:
        raise UserError(f"{type(backbone).__name__} has {backbone.num_exits} exits already; give a network with one.")
    sizes = tuple(input_size) if isinstance(input_size, Sequence) else ()
    if len(sizes) != 3 or not all(type(size) is int and size > 0 for size in sizes):
        raise UserError(f"input_size={input_size} must be (channels, height, width), three integers of at least 1.")
    return sizes[0], sizes[1], sizes[2]


def _last_linear(traced: Traced, backbone: nn.Module) -> str | None:
    """Return the path of the linear layer that gives the logits; None if something else does."""
    node = traced.answer
    while node.op == "call_module" and isinstance(backbone.get_submodule(str(node.target)), nn.Identity):
        node = cast(fx.Node, node.args[0])
    path = str(node.target)
    if node.op != "call_module" or len(traced.calls[path]) > 1:
        return None
    if not isinstance(backbone.get_submodule(path), nn.Linear):
        return None
    features = traced.values[0][cast(fx.Node, node.args[0])]
    return path if features.ndim == 2 else None


def _stages(traced: Traced, places: Sequence[Place], last: str | None) -> list[fx.Graph]:
    """Return the graphs of the stages; the last ends before the linear layer of this path, or at the logits."""
    end = traced.answer
    if last is not None:
        (linear,) = (node for node in traced.nodes if node.op == "call_module" and node.target == last)
        end = cast(fx.Node, linear.args[0])
    graphs, start, before = [], 0, [traced.nodes[0]]
    for place in places:
        after = alive(traced, place.at, place.name, end, place.node)
        graphs.append(program(traced, start, place.at, before, after))
        start, before = place.at, after
    return [*graphs, program(traced, start, traced.index[end], before, [end])]


def _has_class_token(node: fx.Node) -> bool:
    """Return whether a class token is among what a node was computed from."""
    waiting, seen = [node], {node}
    while waiting:
        node = waiting.pop()
        if node.op == "get_attr" and str(node.target).rpartition(".")[2] in ("cls_token", "class_token"):
            return True
        new = set(node.all_input_nodes) - seen
        seen |= new
        waiting += new
    return False


def _foldable(stages: Sequence[fx.Graph], traced: Traced, backbone: nn.Module) -> list[tuple[str, str]]:
    """Return the paths of convolutions and of the batch normalisation in the same stage that alone reads each."""
    pairs = []
    for node in (node for stage in stages for node in stage.nodes):
        following = next(iter(node.users), None)
        if node.op != "call_module" or len(node.users) != 1 or following is None or following.op != "call_module":
            continue
        both = str(node.target), str(following.target)
        once = following.args == (node,) and all(len(traced.calls[path]) == 1 for path in both)
        first, second = map(backbone.get_submodule, both)
        if once and isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
            pairs.append(both)
    return pairs
