"""Score files: .npz archives of named arrays, from ranet or another program."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ranet.errors import UserError

Array = npt.NDArray[Any]

CLASSES = ("prediction", "labels")
TRUTHS = ("correct_top5", "correct", "executed")
DIMENSIONS = {
    "confidence": 2,
    "margin": 2,
    "entropy": 2,
    "prediction": 2,
    "correct_top5": 2,
    "correct": 2,
    "labels": 1,
    "logits": 3,
    "executed": 3,
    "temperatures": 1,
}


def read_score_arrays(path: str | Path) -> dict[str, Array]:
    """Load the arrays of a score file, by name, and check their names, dimensions and types.

    The file holds either "confidence" (exits, images) and other arrays of `ExitScores`, or "logits" (exits, images,
    classes). Both may come with "labels" (images,). A UserError if it is missing, damaged, or not a score file.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            if isinstance(file, np.ndarray):
                raise ValueError("a single array")
            arrays = {name: file[name] for name in file.files}
    except FileNotFoundError as error:
        raise UserError(f"There is no score file {str(path)!r}.") from error
    except OSError as error:
        raise UserError(f"The score file {str(path)!r} cannot be read: {error.strerror or error}.") from error
    except Exception as error:  # bytes that are not an archive can raise anything
        raise UserError(f"{str(path)!r} is not a file of exit scores (.npz of plain arrays).") from error
    unknown = sorted(set(arrays) - set(DIMENSIONS))
    if unknown or not {"confidence", "logits"} & set(arrays):
        found = ", ".join(sorted(arrays)) or "nothing"
        raise UserError(
            f"{str(path)!r} holds {found}; a score file holds confidence (exits, images) or logits (exits, images, "
            "classes), labels (images,) and, if known, prediction, correct, margin, entropy, correct_top5."
        )
    for name, array in arrays.items():
        if array.ndim != DIMENSIONS[name] or array.dtype.kind not in "biuf":
            raise UserError(
                f"In {str(path)!r}, {name} must be numbers in {DIMENSIONS[name]} dimensions, not {array.dtype} of "
                f"shape {array.shape}."
            )
        # NaN is refused too: a cast would make it some class, or true.
        if name in CLASSES and not ((array >= 0) & (array < 2**53) & (array == np.round(array))).all():
            raise UserError(f"In {str(path)!r}, {name} must be class indices: integers of at least 0.")
        if name in TRUTHS and not np.isin(array, (0, 1)).all():
            raise UserError(f"In {str(path)!r}, {name} must be true or false (1 or 0).")
    if "logits" in arrays and _are_probabilities(arrays["logits"]):
        raise UserError(
            f"In {str(path)!r}, logits are probabilities (they add up to 1); store their logarithms instead."
        )
    return arrays


def _are_probabilities(logits: Array) -> bool:
    # One image is enough: logits of all its exits do not add up to 1 by chance.
    first = logits[:, :1].astype(np.float64)
    if logits.shape[-1] < 2 or not first.size:
        return False
    return bool((first >= 0).all() and np.allclose(first.sum(-1), 1, atol=1e-3))
