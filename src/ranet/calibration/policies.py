"""Exit policies: where each image stops, given how confident each exit is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from ranet.calibration.scores import SCORES, ExitScores, same_temperatures
from ranet.calibration.strict_json import plain, strict_json
from ranet.errors import UserError
from ranet.files import written_whole

FORMAT = "ranet exit policy"
VERSION = 1


def first_exits(
    scores: npt.NDArray[np.float32], thresholds: Sequence[float] | npt.NDArray[np.floating]
) -> npt.NDArray[np.int64]:
    """The first exit k at which scores[k] >= thresholds[k]; the last exit takes who has not left before.

    Args:
        scores: (K, N), more is surer.
        thresholds: (K - 1,); infinity where nobody leaves.

    Returns:
        (N,) exit indices, 0..K-1.

    Example:
        >>> first_exits(np.float32([[0.9, 0.2, 0.2], [0.9, 0.7, 0.6], [1.0, 1.0, 1.0]]), [0.8, 0.7])
        array([0, 1, 2])
    """
    leaves = np.ones(scores.shape, dtype=bool)
    leaves[:-1] = scores[:-1] >= np.asarray(thresholds, dtype=np.float32)[:, None]
    return leaves.argmax(axis=0)


@dataclass(frozen=True)
class ExitPolicy:
    """An image leaves at the first exit whose score reaches the exit's threshold, and at the last exit otherwise.

    Thresholds are rounded to float32, the precision of the scores, so that NumPy here, PyTorch in the engine and a
    float32 graph in an exported network agree about every image, ties included.

    Attributes:
        thresholds: one for each exit but the last; infinity where nobody leaves, minus infinity where everybody does.
        score: what is compared, more is surer: "confidence" is the largest softmax probability, "margin" this minus
            the second largest, "entropy" the negative entropy of the softmax in nats, "patience" how many exits in a
            row predict this class, plus a fraction for the confidence (`patience_scores`).
        temperatures: one for each exit, what its logits are divided by before the softmax; None is 1.
        metadata: where the policy comes from and what it promises (JSON values): `calibrate` puts in the unit, the
            budget, the cost per exit, and the cost, accuracy and exit shares that validation predicts.

    Raises:
        UserError: if these are not thresholds, a score, and temperatures.

    Example:
        >>> policy = ExitPolicy((0.75, float("inf")))
        >>> policy.num_exits, policy.thresholds
        (3, (0.75, inf))
    """

    thresholds: tuple[float, ...]
    score: str = "confidence"
    temperatures: tuple[float, ...] | None = None
    metadata: dict[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        with np.errstate(over="ignore"):
            rounded = np.asarray(self.thresholds, dtype=np.float64).astype(np.float32)
        if rounded.ndim != 1 or np.isnan(rounded).any():
            raise UserError(f"Thresholds must be one number for each exit but the last, not {self.thresholds}.")
        if self.score not in SCORES:
            raise UserError(f"An exit policy compares one of {', '.join(SCORES)}, not {self.score!r}.")
        if self.temperatures is not None:
            given = tuple(float(value) for value in self.temperatures)
            if len(given) != len(rounded) + 1 or not all(0 < value < inf for value in given):
                raise UserError(f"There must be one positive temperature for each exit, not {self.temperatures}.")
            object.__setattr__(self, "temperatures", given)
        object.__setattr__(self, "thresholds", tuple(rounded.tolist()))
        object.__setattr__(self, "metadata", plain(self.metadata))

    @classmethod
    def only(cls, exit: int, num_exits: int, **metadata: Any) -> ExitPolicy:
        """The policy by which everybody leaves at one exit, 0..K-1, however unsure."""
        if not 0 <= exit < num_exits:
            raise UserError(f"There is no exit {exit + 1} among {num_exits}.")
        thresholds = (inf,) * exit + (-inf,) * (num_exits - 1 - exit)
        return cls(thresholds, metadata=metadata)

    @property
    def num_exits(self) -> int:
        """K, the number of exits of the networks that this policy is for."""
        return len(self.thresholds) + 1

    def require_exits(self, num_exits: int) -> None:
        """Raise a UserError unless the policy is for this number of exits."""
        if num_exits != self.num_exits:
            raise UserError(
                f"The policy is for {self.num_exits} exits and the scores have {num_exits}: calibrate a policy on "
                "scores of this network."
            )

    def exits(self, scores: ExitScores) -> npt.NDArray[np.int64]:
        """(N,) the index of the exit at which each image leaves.

        Raises:
            UserError: if the scores are of a network with another number of exits, of other temperatures, or lack what
                the policy compares.
        """
        return first_exits(self.compared(scores), self.thresholds)

    def compared(self, scores: ExitScores) -> npt.NDArray[np.float32]:
        """(K, N) what is compared with the thresholds; raises as `exits`."""
        self.require_exits(scores.num_exits)
        if not same_temperatures(self.temperatures, scores.temperatures):
            raise UserError(
                "The policy and the scores are of different temperatures: score the images with those of the policy."
            )
        return scores.score(self.score)

    def save(self, path: str | Path) -> None:
        """Write the policy as strict JSON, whole or not at all; an infinite threshold is written as null."""
        content = {
            "format": FORMAT,
            "version": VERSION,
            "score": self.score,
            "thresholds": self.thresholds,
            "metadata": self.metadata,
        }
        with written_whole(path) as partial:
            partial.write_text(strict_json(content), encoding="utf-8")


def load_policy(path: str | Path) -> ExitPolicy:
    """Read a policy that `ExitPolicy.save` wrote, or that was written by hand in the same form.

    Raises:
        UserError: if the file is missing, is not JSON, or is not a policy of this format and version.
    """
    where = f"The policy file {str(path)!r}"
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"), parse_constant=_refuse)
    except FileNotFoundError as error:
        raise UserError(f"{where} does not exist; ranet calibrate writes one.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{where} cannot be read as text: {error}.") from error
    except ValueError as error:
        raise UserError(f"{where} is not valid JSON ({error}); write it again with ranet calibrate.") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(f'{where} is no exit policy: it must be an object with "format": "{FORMAT}".')
    if content.get("version") != VERSION:
        raise UserError(
            f"{where} has version {content.get('version')!r} and this ranet reads {VERSION}: write it again with ranet "
            "calibrate, or update ranet."
        )
    thresholds, metadata = content.get("thresholds"), content.get("metadata", {})
    if not isinstance(thresholds, list) or not all(_is_threshold(value) for value in thresholds):
        raise UserError(
            f'{where} must have "thresholds", a list with a number for each exit but the last, or null where nobody '
            "leaves."
        )
    if not isinstance(metadata, dict):
        raise UserError(f'{where} must have an object as "metadata".')
    values = tuple(inf if value is None else float(value) for value in thresholds)
    return ExitPolicy(values, score=content.get("score", "confidence"), metadata=metadata)


def _is_threshold(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON number")
