"""Exit policies: the exit at which each image leaves, given the scores of the exits."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib.metadata import PackageNotFoundError, version
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ranet.calibration.policies.promise import Promise
from ranet.calibration.scores.checks import (
    SCORES,
    check_temperatures,
    require_exits_first,
    require_scores,
    same_temperatures,
)
from ranet.errors import UserError
from ranet.support.strict_json import plain

if TYPE_CHECKING:
    from ranet.calibration.scores.exit_scores import ExitScores  # needs PyTorch; following a policy does not

#: What the file of one policy is called, and the folder of several, where ranet chooses the name.
ONE_POLICY, SEVERAL_POLICIES = "policy.json", "policies"
FORMAT = "ranet exit policy"


def first_exits(
    scores: npt.NDArray[np.float32], thresholds: Sequence[float] | npt.NDArray[np.floating]
) -> npt.NDArray[np.int64]:
    """Return (N,) the first exit k at which scores[k] >= thresholds[k]; the remaining images leave at the last exit.

    Args:
        scores: (K, N) scores, higher is surer.
        thresholds: (K - 1,) thresholds; infinity where no image leaves.

    Example:
        >>> first_exits(np.float32([[0.9, 0.2, 0.2], [0.9, 0.7, 0.6], [1.0, 1.0, 1.0]]), [0.8, 0.7])
        array([0, 1, 2])
    """
    # How many exits an image has passed, in bytes: several times faster than int64.
    passed: npt.NDArray[Any] = np.zeros(scores.shape[1], dtype=np.uint8 if len(scores) <= 256 else np.int64)
    here = np.ones(scores.shape[1], dtype=np.bool_)
    for of_exit, threshold in zip(scores[:-1], thresholds, strict=True):
        here = here & (of_exit < np.float32(threshold))
        passed += here
    return passed.astype(np.int64)


def possible_exits(thresholds: Sequence[float] | npt.NDArray[np.floating]) -> npt.NDArray[np.bool_]:
    """Return (K,) whether images can leave at each exit: not at a threshold of infinity or after one of -infinity."""
    at = np.array([*thresholds, -inf])
    possible: npt.NDArray[np.bool_] = at < inf
    possible[int((at == -inf).argmax()) + 1 :] = False
    return possible


@dataclass(frozen=True)
class ExitPolicy:
    """A rule by which an image leaves at the first exit whose score reaches its threshold, else at the last exit.

    Thresholds are rounded to float32, the precision of the scores. So NumPy here, PyTorch in the engine and a float32
    graph in an exported network agree on every image, ties included.

    Attributes:
        thresholds: one for each exit but the last; infinity where no image leaves, minus infinity where all leave.
        score: score to compare, higher is surer: "confidence" is the largest softmax probability, "margin" this minus
            the second largest, "entropy" the negative entropy of the softmax in nats, "patience" the number of exits in
            a row that predict this class, plus a fraction for the confidence (`patience_scores`).
        temperatures: one for each exit, which divides its logits before the softmax; None is 1.
        metadata: origin and predictions of the policy (JSON values); `promise` has those that ranet knows.

    Raises:
        UserError: if the thresholds, the score or the temperatures are invalid.

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
            given = check_temperatures(self.temperatures, len(rounded) + 1)
            object.__setattr__(self, "temperatures", tuple(given.tolist()))
        object.__setattr__(self, "thresholds", tuple(rounded.tolist()))
        object.__setattr__(self, "metadata", plain(self.metadata))

    @classmethod
    def only(cls, exit: int, num_exits: int, **metadata: Any) -> ExitPolicy:
        """Return the policy under which all images leave at one exit, 0..K-1."""
        if not 0 <= exit < num_exits:
            raise UserError(f"There is no exit {exit + 1} among {num_exits}.")
        return cls((inf,) * exit + (-inf,) * (num_exits - 1 - exit), metadata=metadata)

    @cached_property
    def promise(self) -> Promise:
        """What calibration predicts and guarantees, and its costs, from the metadata."""
        return Promise.of(self.metadata, self.num_exits)

    @property
    def num_exits(self) -> int:
        """K, the number of exits of the network."""
        return len(self.thresholds) + 1

    @property
    def possible_exits(self) -> npt.NDArray[np.bool_]:
        """(K,) whether images can leave at each exit, for some scores."""
        return possible_exits(self.thresholds)

    def require_exits(self, num_exits: int) -> None:
        """Raise a UserError unless the policy is for this number of exits."""
        if num_exits != self.num_exits:
            raise UserError(
                f"The policy is for {self.num_exits} exits and the scores have {num_exits}: calibrate a policy on "
                "scores of this network."
            )

    def exits(self, scores: ExitScores) -> npt.NDArray[np.int64]:
        """Return (N,) the index of the exit at which each image leaves.

        Raises:
            UserError: if the scores have other exits or temperatures than the policy, or lack the score that it needs.
        """
        return first_exits(self.compared(scores), self.thresholds)

    def compared(self, scores: ExitScores) -> npt.NDArray[np.float32]:
        """Return (K, N) the scores that are compared with the thresholds; raise the errors of `exits`."""
        require_scores(scores)
        require_exits_first(scores, self.num_exits, "the policy is for")
        self.require_exits(scores.num_exits)
        if not same_temperatures(self.temperatures, scores.temperatures):
            raise UserError(
                "The policy and the scores have different temperatures: score the images with those of the policy."
            )
        return scores.score(self.score)

    def require_network(self, fingerprint: str) -> None:
        """Raise a UserError if the policy was solved for a network with another fingerprint, if it names one."""
        known = self.promise.fingerprint
        if known is not None and known != fingerprint:
            raise UserError(
                f"The policy was solved for another network (fingerprint {known}; this network has {fingerprint}): "
                "calibrate a policy for this network."
            )

    def save(self, path: str | Path) -> None:
        """Write the policy file (`PolicyFile`), whole or not at all.

        Raises:
            UserError: if a policy file cannot hold the metadata, such as a budget that is not a number.
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
    """Read a policy that `ExitPolicy.save` wrote; an edited policy that is still valid is read with a notice.

    Raises:
        UserError: if the file is missing, or not a policy of this format and version.
    """
    from ranet.calibration.policies.schema import PolicyFile

    record = PolicyFile.read(path)
    return ExitPolicy(record.thresholds, record.score, record.temperatures, record.metadata)


GivenPolicies = ExitPolicy | str | Path | Sequence[ExitPolicy | str | Path]


def given_policies(given: GivenPolicies) -> list[ExitPolicy]:
    """Return one or several policies in the given order; read those given as files, as `load_policy` does."""
    several = [given] if isinstance(given, ExitPolicy | str | Path) else list(given)
    return [each if isinstance(each, ExitPolicy) else load_policy(each) for each in several]


def software_versions() -> dict[str, str]:
    """Return the versions of what runs."""
    return {**{name: _version(name) for name in ("ranet", "torch", "numpy")}, "python": platform.python_version()}


@cache
def _version(package: str) -> str:
    # Not asked of the package itself: to import PyTorch for this would take seconds.
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
