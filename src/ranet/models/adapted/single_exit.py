"""An ordinary classifier as a staged network of one exit, which the engine's backends run as any other."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ranet.errors import UserError, first_line
from ranet.models.staged import StagedNetwork, State, without_data
from ranet.support.shapes import ImageSize


class SingleExit(StagedNetwork):
    """A classifier without early exit as a `StagedNetwork` whose one stage is the whole classifier.

    Args:
        module: from images (B, in_channels, H, W) to logits (B, C).
        num_classes: C.
        image_size: side of the square images in pixels, or their (height, width).
        in_channels: of the images.

    Example:
        >>> import torch
        >>> network = SingleExit(nn.Sequential(nn.Flatten(), nn.Linear(48, 10)), num_classes=10, image_size=4)
        >>> network(torch.zeros(2, 3, 4, 4)).shape
        torch.Size([1, 2, 10])
    """

    def __init__(self, module: nn.Module, num_classes: int, image_size: ImageSize, in_channels: int = 3) -> None:
        super().__init__(num_classes, image_size, in_channels)
        self.num_exits = 1
        self.module = module

    def stem(self, images: Tensor) -> State:
        """Return the images."""
        return (images,)

    def advance(self, k: int, state: State) -> State:
        """Run the classifier."""
        return (self.module(state[0]),)

    def answer(self, k: int, state: State) -> Tensor:
        """Return the logits of the classifier."""
        return state[0]


def single_exit(module: nn.Module, input_size: tuple[int, int, int] | None = None) -> SingleExit:
    """Return a classifier as a `SingleExit`, with the number of classes that it answers.

    Args:
        module: from images (B, C, H, W) to logits (B, classes).
        input_size: (C, H, W) of the images; None: as a network of timm says it itself.

    Raises:
        UserError: if the input size is not known, or the module does not answer such images with logits.

    Example:
        >>> single_exit(nn.Sequential(nn.Flatten(), nn.Linear(48, 10)), (3, 4, 4)).num_classes
        10
    """
    name = type(module).__name__
    if not isinstance(module, nn.Module):
        raise UserError(f"A classifier must be a torch.nn.Module, not {name}.")
    known = getattr(module, "pretrained_cfg", None) or {}
    size = known.get("input_size") if input_size is None else input_size
    if size is None:
        raise UserError(f"{name} does not say which images it reads: add input_size=(channels, height, width).")
    channels, height, width = size
    try:
        with torch.inference_mode():
            answer = without_data(module).eval()(torch.empty(2, *size, device="meta"))
    except (RuntimeError, ValueError, TypeError, IndexError, NotImplementedError) as error:
        raise UserError(f"{name} cannot read images of shape {tuple(size)} ({first_line(error)}).") from error
    if not isinstance(answer, Tensor) or answer.ndim != 2 or len(answer) != 2:
        got = tuple(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__
        raise UserError(f"{name} must answer 2 images with logits (2, classes); it answered {got}.")
    return SingleExit(module, answer.shape[1], (height, width), channels)
