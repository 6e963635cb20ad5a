"""A figure of easy and hard images: for each exit, some images that left there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.cells import cell_len, set_cell_size
from torch import Tensor

from ranet.calibration.policies.exit_policy import ExitPolicy
from ranet.calibration.scores.exit_scores import ExitScores
from ranet.errors import UserError
from ranet.evaluation.figures.fonts import drawable
from ranet.evaluation.figures.style import INK, PAGE, RIGHT, WRONG, new_figure, set_title, styled

LONGEST_NAME = 12  # widest class name under an image, in cells; Chinese characters are two cells wide


class Pictures(Protocol):
    """A sequence whose item i is the picture of test image i: a list, an array, a tensor or a data set of pictures."""

    def __getitem__(self, index: int, /) -> Any: ...

    def __len__(self) -> int: ...


@styled
def gallery_figure(
    policy: ExitPolicy,
    scores: ExitScores,
    images: Pictures,
    class_names: Sequence[str] | None = None,
    columns: int = 10,
    seed: int = 0,
    title: str = "Images that left at each exit",
) -> Figure:
    """Draw a row of images for each exit, chosen at random among those that left there under the policy.

    The label is below the image. If the network is wrong, the image has a frame and an arrow points to the prediction.
    The images are in the order of the scores, each (H, W), (H, W, 3) or (3, H, W), as uint8 or in [0, 1]; as many as
    there are columns are shown for each exit. Without names of the classes, their indices are shown.

    Raises:
        UserError: if there are not as many images as scores, or fewer names than classes.
    """
    if len(images) != scores.num_images:
        raise UserError(f"The gallery needs the {scores.num_images} scored images in order, not {len(images)} images.")
    classes = 1 + max(int(scores.labels.max()), int(scores.prediction.max()))
    if class_names is not None and len(class_names) < classes:
        raise UserError(f"The gallery needs a name for each of {classes} classes, not {len(class_names)} names.")
    left_at = policy.exits(scores)
    rng = np.random.default_rng(seed)
    figure = new_figure(PAGE, 0.5 + 0.92 * policy.num_exits)
    set_title(figure, title)
    figure.supxlabel("framed: wrong (label → prediction)", fontsize=6.5, color=WRONG)
    grid = figure.subplots(policy.num_exits, columns, squeeze=False)
    for k, row in enumerate(grid):
        here = np.flatnonzero(left_at == k)
        chosen = rng.permutation(here)[:columns]
        for axes, i in zip(row, chosen, strict=False):
            _draw(axes, as_picture(images[int(i)]), int(scores.prediction[k, i]), int(scores.labels[i]), class_names)
        for axes in row[len(chosen) :]:
            axes.set_axis_off()
        _describe_row(row[0], k, len(here) / scores.num_images, scores.correct[k, here])
    return figure


def as_picture(image: Any) -> npt.NDArray[np.uint8]:
    """Return the image as (H, W, 3) uint8, from a tensor, an array or a PIL image in any common layout.

    Example:
        >>> as_picture(np.ones((3, 4, 5), dtype=np.float32)).shape
        (4, 5, 3)
    """
    picture = image.detach().cpu().numpy() if isinstance(image, Tensor) else np.asarray(image)
    if picture.ndim == 3 and picture.shape[0] in (1, 3):
        picture = picture.transpose(1, 2, 0)
    if picture.ndim == 2:
        picture = picture[:, :, None]
    if picture.dtype != np.uint8:
        picture = (255 * np.clip(picture, 0, 1)).round().astype(np.uint8)
    return np.broadcast_to(picture, (*picture.shape[:2], 3))


def _draw(
    axes: Axes, picture: npt.NDArray[np.uint8], prediction: int, label: int, class_names: Sequence[str] | None
) -> None:
    right = prediction == label
    axes.imshow(picture, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(visible=not right, color=WRONG, linewidth=1.8)
    # Always two lines, so that all rows have the same height.
    text = _name(label, class_names) + ("\n" if right else f"\n→ {_name(prediction, class_names)}")
    axes.set_xlabel(text, fontsize=5.5, color=RIGHT if right else WRONG, labelpad=2)


def _name(label: int, class_names: Sequence[str] | None) -> str:
    """Return the name of a class, shortened; with its index if no font can draw it."""
    name = str(label) if class_names is None else class_names[label]
    found = drawable(name)
    shown = name if found.whole else f"{label} {found.text}"
    return shown if cell_len(shown) <= LONGEST_NAME else set_cell_size(shown, LONGEST_NAME - 1).rstrip() + "…"


def _describe_row(axes: Axes, k: int, share: float, correct: npt.NDArray[np.bool_]) -> None:
    right = f"{100 * correct.mean():.1f} % right" if correct.size else "no images"
    text = f"exit {k + 1}\n{100 * share:.1f} % leave\n{right}"
    place: dict[str, Any] = {"xy": (0, 0.5), "xycoords": "axes fraction", "ha": "right", "va": "center"}
    axes.annotate(text, xytext=(-6, 0), textcoords="offset points", fontsize=6.5, color=INK, **place)
