"""Checks of score arrays from any source."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from ranet.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from ranet.calibration.scores.exit_scores import ExitScores

Score = Literal["confidence", "margin", "entropy", "patience"]
SCORES: tuple[Score, ...] = get_args(Score)
"""The scores that policies can compare; `ExitPolicy` defines them."""
ROUNDING = 1e-5  # error of probabilities that add up to 1 in half precision
RANGES = {
    "confidence": (0.0, 1.0, "a probability, between 0 and 1"),
    "margin": (0.0, 1.0, "a difference of probabilities, between 0 and 1"),
    "entropy": (-np.inf, 0.0, "the negative entropy, at most 0, so that higher is surer"),
}


def check_scores(arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Check arrays by the names of `ExitScores`, "confidence" (K, N) among them.

    Raises:
        UserError: if there are no images, shapes do not match, or a score is not finite or is out of its range.
    """
    shape = arrays["confidence"].shape
    if len(shape) != 2:
        raise UserError(f"Scores must have shape (exits, images), not {shape}.")
    if 0 in shape:
        raise UserError("There are no images to score; check the split or the selection.")
    for name, array in arrays.items():
        if array.shape[: 1 if name == "labels" else 2] != (shape[1:] if name == "labels" else shape):
            told = f"The scores have {name} of shape {array.shape}, which does not match confidence of shape {shape}"
            if name == "labels" and array.shape == shape[:1]:
                raise UserError(f"{told}; {_transpose('confidence')}.")
            raise UserError(f"{told}; {_transpose(name)}." if array.shape[:2] == shape[::-1] else f"{told}.")
        if array.dtype.kind != "f":
            continue
        # A logit of minus infinity excludes a class.
        finite = np.isfinite(array) if name != "logits" else ~(np.isnan(array) | (array == np.inf))
        if not finite.all():
            bad = int((~finite).reshape(*shape, -1).any(axis=(0, 2)).sum())
            raise UserError(
                f"The {name} is not a finite number for {bad} of {shape[1]} images: the network has diverged, or its "
                "weights or the scores are damaged."
            )
        low, high, meaning = RANGES.get(name, (-np.inf, np.inf, ""))
        if array.min() < low - ROUNDING or array.max() > high + ROUNDING:
            raise UserError(f"The {name} must be {meaning}; the values are {array.min():.4g}..{array.max():.4g}.")


def check_logits(logits: Tensor, labels: Tensor | None) -> None:
    """Raise a UserError unless the shapes are (exits, images, classes) and (images,)."""
    if labels is not None and logits.ndim == 3 and labels.shape == logits.shape[:1] != logits.shape[1:2]:
        shape = f"shape {tuple(logits.shape)} for {len(labels)} labels"
        raise UserError(f"The array of logits has {shape}; {_transpose('logits')}.")
    if logits.ndim != 3 or (labels is not None and labels.shape != logits.shape[1:2]):
        of_labels = "" if labels is None else f" and {tuple(labels.shape)}"
        raise UserError(
            f"Logits must be (exits, images, classes) and labels (images,), not {tuple(logits.shape)}{of_labels}."
        )


def _transpose(name: str) -> str:
    """Return advice for an array that has the images before the exits."""
    axes = "(exits, images, classes)" if name == "logits" else "(exits, images)"
    return f"it must be {axes}: transpose it with numpy.swapaxes({name}, 0, 1)"


def require_exits_first(scores: ExitScores, num_exits: int, of: str) -> None:
    """Raise a UserError if the axes are swapped: if there are as many images, and not exits, as there are to be exits.

    ``of`` begins "NUM exits" in the message, such as "the policy is for".
    """
    if scores.num_images == num_exits != scores.num_exits:
        raise UserError(
            f"The scores have shape ({scores.num_exits}, {scores.num_images}), and {of} {num_exits} exits: arrays must "
            "be (exits, images) or (exits, images, classes); transpose them with numpy.swapaxes(ARRAY, 0, 1)."
        )


def check_temperatures(temperatures: npt.ArrayLike, num_exits: int) -> npt.NDArray[np.float64]:
    """Return the temperatures as (K,) float64; raise a UserError unless there is a positive number for each exit."""
    wrong = UserError(
        f"There must be one positive temperature for each of the {num_exits} exits, not {temperatures!r}."
    )
    try:
        values = np.asarray(temperatures, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise wrong from error
    if values.shape != (num_exits,) or not (np.isfinite(values).all() and (values > 0).all()):
        raise wrong
    return values


def same_temperatures(one: npt.ArrayLike | None, other: npt.ArrayLike | None) -> bool:
    """Return whether two sets of temperatures are the same; None is 1 for every exit."""
    if one is None or other is None:
        return all(values is None or bool((np.asarray(values) == 1).all()) for values in (one, other))
    return np.array_equal(np.asarray(one), np.asarray(other))


def require_scores(scores: object) -> None:
    """Raise a UserError unless the object is an `ExitScores`."""
    if not hasattr(scores, "num_exits") or not hasattr(scores, "score"):
        raise UserError(
            f"Exit scores are needed, not {type(scores).__name__}: make them with ranet.ExitScores(confidence, ...), "
            "ExitScores.from_logits(logits, labels) or ExitScores.load(FILE)."
        )
