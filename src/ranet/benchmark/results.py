"""The results of a benchmark: times, and what follows from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from math import isnan, nan
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ranet.benchmark.turns import Floats, Pace
from ranet.calibration.policies.exit_policy import ExitPolicy
from ranet.inference.stages.fused_stages import FusedStage

CALL, STREAM = "calls", "stream"


class Setting(NamedTuple):
    """The backend, precision and batch size of a measurement."""

    backend: str
    precision: str
    batch_size: int

    def __str__(self) -> str:
        return f"batch {self.batch_size} in {self.backend} {self.precision}"


def all_settings(backends: Sequence[str], precisions: Sequence[str], batch_sizes: Sequence[int]) -> list[Setting]:
    """Return every combination that is possible: ONNX Runtime computes only in float32.

    Example:
        >>> [str(setting) for setting in all_settings(["torch", "onnxruntime"], ["float32", "bfloat16"], [1])]
        ['batch 1 in torch float32', 'batch 1 in torch bfloat16', 'batch 1 in onnxruntime float32']
    """
    return [
        Setting(*each) for each in product(backends, precisions, batch_sizes) if each[:2] != ("onnxruntime", "bfloat16")
    ]


@dataclass(frozen=True)
class Answered:
    """The quality of the answers of a policy.

    Attributes:
        accuracy: top-1 as a fraction; NaN without labels.
        change: this top-1 minus that of the network as trained, in float32; NaN without labels.
        agreement: share of the answers that equal those of the network as trained.
    """

    accuracy: float
    change: float
    agreement: float


@dataclass(frozen=True, eq=False)
class PolicyTimes:
    """One policy in one setting.

    Attributes:
        name, predicted, ideal: of `policy_name`, `predicted_share` and `ideal_time`.
        macs: mean multiply-adds of the timed images, as the engine computes them, over those of the network with all
            exits.
        measured: time of each way of answering: `CALL` and, for batches of more than one image, `STREAM`.
        answered: quality of the answers to all images.
        exit_shares: (K,) shares of the timed images that leave at each exit.
    """

    name: str
    predicted: float
    macs: float
    ideal: float
    measured: Mapping[str, Pace]
    answered: Answered
    exit_shares: Floats

    def of_ideal(self, way: str) -> float:
        """Return the measured time over the ideal."""
        return self.measured[way].ms / self.ideal

    def fastest(self, whole: Pace) -> tuple[str, float]:
        """Return the fastest way of answering, and its time over that of the whole network."""
        way = min(self.measured, key=lambda each: self.measured[each].ms)
        return way, self.measured[way].ms / whole.ms


@dataclass(frozen=True, eq=False)
class RivalTimes:
    """A rival in one setting: its name, its top-1 as a fraction or NaN, the shape (C, H, W) of its images, its time."""

    name: str
    accuracy: float
    shape: tuple[int, int, int]
    timing: Pace


@dataclass(frozen=True, eq=False)
class SettingTimes:
    """Everything that was measured in one setting.

    Attributes:
        setting: the setting.
        images: number of images that each round answers; the network as trained may answer fewer.
        whole_macs: multiply-adds to the last exit without the heads before it, over those with them.
        trained_macs: the same for the network as trained, which also computes what no exit reads unless it is lazy.
        trained: time of the network as trained: plain PyTorch in float32, to the last exit.
        whole: time of the network in this backend and precision as one graph to the last exit.
        all_exits: time of the same graph with the logits of all exits.
        stages: (K,) milliseconds an image of each stage, one run after another.
        stages_uncut: milliseconds an image of the graph with the logits of all exits, in turns with the stages.
        policies, rivals: in the order in which they were given.
        last_exit: quality of the answers of the last exit in this precision.
    """

    setting: Setting
    images: int
    whole_macs: float
    trained_macs: float
    trained: Pace
    whole: Pace
    all_exits: Pace
    stages: Floats
    stages_uncut: float
    policies: Sequence[PolicyTimes]
    rivals: Sequence[RivalTimes]
    last_exit: Answered

    @property
    def cuts(self) -> float:
        """The sum of all stages over the time of the graph with all exits, which is not cut."""
        return float(self.stages.sum()) / self.stages_uncut

    @property
    def speedup(self) -> float:
        """The time of the network as trained over that of the whole network."""
        return self.trained.ms / self.whole.ms

    def to_dict(self) -> dict[str, Any]:
        """Return everything for JSON, with times in milliseconds an image."""
        return {
            **self.setting._asdict(),
            "images": self.images,
            "whole_macs_share": self.whole_macs,
            "as_trained_macs_share": self.trained_macs,
            "as_trained": self.trained.to_dict(),
            "whole": {**self.whole.to_dict(), **vars(self.last_exit)},
            "all_exits": self.all_exits.to_dict(),
            "stages_ms_per_image": self.stages.tolist(),
            "stages_uncut_ms_per_image": self.stages_uncut,
            "stages_over_all_exits": self.cuts,
            "times_as_fast_as_trained": self.speedup,
            "policies": [_policy(each, self.whole) for each in self.policies],
            "rivals": [
                {"name": r.name, "accuracy": r.accuracy, "shape": list(r.shape), **r.timing.to_dict()}
                for r in self.rivals
            ],
        }


@dataclass(frozen=True, eq=False)
class Benchmark:
    """All settings of one network, in the order of measuring.

    Attributes:
        images: number of all images; a round may answer fewer.
        rounds: number of turns that everything had.
        exit_accuracies: (K,) top-1 of each exit of the network as trained; NaN without labels.
        conditions: hardware, software and command.
        notices: a sentence for each thing that was left out.
    """

    settings: Sequence[SettingTimes]
    images: int
    rounds: int
    exit_accuracies: Floats
    conditions: Mapping[str, Any] = field(default_factory=dict)
    notices: Sequence[str] = ()

    @property
    def labelled(self) -> bool:
        """Whether there are accuracies."""
        return not bool(np.isnan(self.exit_accuracies).any())


def _policy(times: PolicyTimes, whole: Pace) -> dict[str, Any]:
    return {
        "name": times.name,
        "predicted_cost_share": times.predicted,
        "macs_share": times.macs,
        "exit_shares": times.exit_shares.tolist(),
        "ideal_ms_per_image": times.ideal,
        **vars(times.answered),
        **{
            way: {**timing.to_dict(), "over_ideal": times.of_ideal(way), "over_whole": timing.ms / whole.ms}
            for way, timing in times.measured.items()
        },
    }


def ideal_time(
    stage_times: Mapping[FusedStage, float], stages: Sequence[FusedStage], exits: npt.NDArray[np.int64]
) -> float:
    """Return the milliseconds an image that a policy would take if leaving, compacting and queueing took no time.

    It is the sum over the fused stages of the policy: the milliseconds an image of the stage times the share of images
    that reach it, by the exits (N,) at which they leave.

    Example:
        >>> first, second = FusedStage(0, 0), FusedStage(1, 2)
        >>> ideal_time({first: 2.0, second: 8.0}, [first, second], np.array([0, 0, 0, 2]))
        4.0
    """
    return sum(stage_times[stage] * float(np.mean(exits >= stage.first)) for stage in stages)


def worth(
    labels: npt.NDArray[np.int64], reference: npt.NDArray[np.int64], truth: npt.NDArray[np.int64] | None
) -> Answered:
    """Return the quality of answers (N,), by those of the network as trained, and by the truth if it is known.

    Example:
        >>> worth(np.array([1, 2, 3, 4]), np.array([1, 2, 0, 4]), np.array([1, 2, 3, 0]))
        Answered(accuracy=0.75, change=0.25, agreement=0.75)
    """
    agreement = float(np.mean(labels == reference))
    if truth is None:
        return Answered(nan, nan, agreement)
    accuracy = float(np.mean(labels == truth))
    return Answered(accuracy, accuracy - float(np.mean(reference == truth)), agreement)


def policy_name(policy: ExitPolicy, number: int) -> str:
    """Return the budget of a policy as a share of the last exit's cost, or else its predicted cost, or its number.

    Example:
        >>> policy_name(ExitPolicy((0.5,), metadata={"budget": 3.0, "cost_per_exit": [1.0, 4.0]}), 1)
        '75 %'
        >>> policy_name(ExitPolicy((0.5,)), 2)
        'policy 2'
    """
    promise = policy.promise
    share = nan if promise.cost_per_exit is None else promise.budget / float(promise.cost_per_exit[-1])
    share = predicted_share(policy) if isnan(share) else share
    return f"policy {number}" if isnan(share) else f"{100 * share:.3g} %"


def predicted_share(policy: ExitPolicy) -> float:
    """Return the mean cost that a policy predicts over the cost of the last exit; NaN if it predicts none."""
    promise = policy.promise
    return nan if promise.cost_per_exit is None else promise.cost / float(promise.cost_per_exit[-1])
