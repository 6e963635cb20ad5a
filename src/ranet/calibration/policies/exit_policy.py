"""Exit policies: where each image stops, given how confident each exit is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ranet.calibration.policies.file import software_versions
from ranet.calibration.scores.checks import SCORES, require_exits_first, require_scores, same_temperatures
from ranet.errors import UserError

if TYPE_CHECKING:
    from ranet.calibration.scores.exit_scores import ExitScores  # which needs PyTorch; to follow a policy does not
from ranet.support.strict_json import plain


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
    # How many exits an image has passed; in bytes, which is several times faster than in whole words.
    passed: npt.NDArray[Any] = np.zeros(scores.shape[1], dtype=np.uint8 if len(scores) <= 256 else np.int64)
    here = np.ones(scores.shape[1], dtype=np.bool_)
    for of_exit, threshold in zip(scores[:-1], thresholds, strict=True):
        here = here & (of_exit < np.float32(threshold))
        passed += here
    return passed.astype(np.int64)


def possible_exits(thresholds: Sequence[float] | npt.NDArray[np.floating]) -> npt.NDArray[np.bool_]:
    """(K,) whether an image can leave there: not at an infinite threshold, nor behind one of minus infinity.

    Example:
        >>> possible_exits([0.9, inf, -inf, 0.5]).tolist()
        [True, False, True, False, False]
    """
    at = np.array([*thresholds, -inf])
    possible: npt.NDArray[np.bool_] = at < inf
    possible[int((at == -inf).argmax()) + 1 :] = False
    return possible


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
    metadata: dict[str, Any] = field(default_factory=dict, hash=False, repr=False)

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

    @property
    def possible_exits(self) -> npt.NDArray[np.bool_]:
        """(K,) whether an image can leave there, whatever its scores."""
        return possible_exits(self.thresholds)

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
        require_scores(scores)
        require_exits_first(scores, self.num_exits, "the policy is for")
        self.require_exits(scores.num_exits)
        if not same_temperatures(self.temperatures, scores.temperatures):
            raise UserError(
                "The policy and the scores are of different temperatures: score the images with those of the policy."
            )
        return scores.score(self.score)

    def require_network(self, fingerprint: str) -> None:
        """Raise a UserError if the policy says that it was solved for a network of another fingerprint.

        Policies that name no network pass: those made by hand, and those solved on scores of a network that lives
        elsewhere.

        Args:
            fingerprint: of the network that shall follow the policy; compared with
                ``metadata["network"]["fingerprint"]``.

        Example:
            >>> ExitPolicy((0.5,), metadata={"network": {"fingerprint": "0123"}}).require_network("0123")
            >>> ExitPolicy((0.5,)).require_network("0123")
        """
        network = self.metadata.get("network")
        known = network.get("fingerprint") if isinstance(network, dict) else None
        if known is not None and known != fingerprint:
            raise UserError(
                f"The policy was solved for another network (its fingerprint is {known}, and that of this network is "
                f"{fingerprint}): calibrate a policy for this one."
            )

    def save(self, path: str | Path) -> None:
        """Write the policy file (`PolicyFile`), whole or not at all.

        Policies made by hand are made so: ``ExitPolicy((0.9, 0.8), metadata={...}).save("policy.json")``.

        Raises:
            UserError: if the metadata are not what a policy file can hold, such as a budget that is no number.
        """
        from ranet.calibration.policies.schema import INFINITE, PolicyFile  # pydantic takes a while to import

        words: dict[float, str] = {number: word for word, number in INFINITE.items()}
        content = {
            "score": self.score,
            "thresholds": [words.get(threshold, threshold) for threshold in self.thresholds],
            "temperatures": self.temperatures,
            "metadata": self.metadata,
            "software": software_versions(),
        }
        PolicyFile.write(path, content)


def load_policy(path: str | Path) -> ExitPolicy:
    """Read a policy that `ExitPolicy.save` wrote; one that was edited and is still right is read with a notice.

    Raises:
        UserError: if the file is missing, is not JSON, is not a policy of this format and version, or says what no
            policy can.
    """
    from ranet.calibration.policies.schema import PolicyFile

    record = PolicyFile.read(path)
    return ExitPolicy(record.thresholds, record.score, record.temperatures, record.metadata)
