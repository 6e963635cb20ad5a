"""What a benchmark found: times, and what follows from them."""

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
    """In what, how exactly, and how many at a time."""

    backend: str
    precision: str
    batch_size: int

    def __str__(self) -> str:
        return f"batch {self.batch_size} in {self.backend} {self.precision}"


def all_settings(backends: Sequence[str], precisions: Sequence[str], batch_sizes: Sequence[int]) -> list[Setting]:
    """Every combination that is possible: ONNX Runtime computes in float32 alone.

    Example:
        >>> [str(setting) for setting in all_settings(["torch", "onnxruntime"], ["float32", "bfloat16"], [1])]
        ['batch 1 in torch float32', 'batch 1 in torch bfloat16', 'batch 1 in onnxruntime float32']
    """
    return [
        Setting(*each) for each in product(backends, precisions, batch_sizes) if each[:2] != ("onnxruntime", "bfloat16")
    ]


@dataclass(frozen=True)
class Answered:
    """What the policy's answers are worth; fractions, NaN without labels.

    Attributes:
        accuracy: top-1.
        change: top-1 minus that of the answers by the network as trained, in float32.
        agreement: the share of the answers that are the same as those.
    """

    accuracy: float
    change: float
    agreement: float


@dataclass(frozen=True, eq=False)
class PolicyTimes:
    """One policy in one setting.

    Attributes:
        name: such as "50 %", its budget as a share of the last exit's cost.
        predicted: its mean cost over the last exit's, as the policy itself says; NaN where it does not.
        macs: the mean multiply-adds of the timed images over those of the network with all its exits; lazy ones, as the
            engine computes.
        ideal: milliseconds an image; see `ideal_time`.
        measured: by way of answering, `CALL` and, for batches of more than one image, `STREAM`.
        answered: over all images.
        exit_shares: (K,) of the timed images.
    """

    name: str
    predicted: float
    macs: float
    ideal: float
    measured: Mapping[str, Pace]
    answered: Answered
    exit_shares: Floats

    def of_ideal(self, way: str) -> float:
        """Measured time over the ideal."""
        return self.measured[way].ms / self.ideal

    def fastest(self, whole: Pace) -> tuple[str, float]:
        """The fastest way of answering, and its time over the whole network's."""
        way = min(self.measured, key=lambda each: self.measured[each].ms)
        return way, self.measured[way].ms / whole.ms


@dataclass(frozen=True, eq=False)
class RivalTimes:
    """A static network in one setting: its name, its top-1 as a fraction or NaN, its image size, its time."""

    name: str
    accuracy: float
    shape: tuple[int, int, int]
    timing: Pace


@dataclass(frozen=True, eq=False)
class SettingTimes:
    """Everything that was measured in one setting.

    Attributes:
        setting: which.
        images: how many each round answers; the network as trained may answer fewer.
        whole_macs: the multiply-adds to the last exit without the heads before it, over those with them.
        trained_macs: likewise of the network as trained, which computes what no exit reads, too, if it is not lazy.
        trained: the network as trained: plain PyTorch in float32, to the last exit.
        whole: in this backend and precision as one graph to the last exit.
        all_exits: likewise, with the logits of all exits.
        stages: (K,) milliseconds an image of each stage alone, on a state computed before.
        stages_uncut: of all stages in the graph with all exits' logits, timed as and among the stages alone.
        policies: in the order in which they were given.
        rivals: likewise.
        last_exit: what the last exit's answers are worth in this precision.
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
        """What the cuts cost: the sum of all stages alone over the same uncut."""
        return float(self.stages.sum()) / self.stages_uncut

    @property
    def speedup(self) -> float:
        """How many times as fast the whole network is as the network as trained."""
        return self.trained.ms / self.whole.ms

    def to_dict(self) -> dict[str, Any]:
        """For JSON; times in milliseconds an image."""
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
    """All settings of one network.

    Attributes:
        settings: in the order of measuring.
        images: how many images there are; a round may answer fewer.
        rounds: how often everything had its turn.
        exit_accuracies: (K,) top-1 of each exit as trained; NaN without labels.
        conditions: hardware, software, command, for JSON and for who reads the tables.
        notices: what was left out, in a sentence each.
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
            way: {
                **timing.to_dict(),
                "over_ideal": times.of_ideal(way),
                "over_whole": timing.ms / whole.ms,
            }
            for way, timing in times.measured.items()
        },
    }


def ideal_time(
    stage_times: Mapping[FusedStage, float], stages: Sequence[FusedStage], exits: npt.NDArray[np.int64]
) -> float:
    """What a policy would cost if leaving, compacting and queueing took no time, in milliseconds an image.

    It is the sum over its fused stages of the stage's own time for an image, times the share of images that reach it.

    Args:
        stage_times: for each fused stage its milliseconds an image.
        stages: of the policy.
        exits: (N,) at which exit each image leaves.

    Example:
        >>> first, second = FusedStage(0, 0), FusedStage(1, 2)
        >>> ideal_time({first: 2.0, second: 8.0}, [first, second], np.array([0, 0, 0, 2]))
        4.0
    """
    return sum(stage_times[stage] * float(np.mean(exits >= stage.first)) for stage in stages)


def worth(
    labels: npt.NDArray[np.int64], reference: npt.NDArray[np.int64], truth: npt.NDArray[np.int64] | None
) -> Answered:
    """What answers (N,) are worth, beside the reference's answers and the truth, where that is known.

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
    """Its budget as a share of the last exit's cost, or else what it predicts to spend, or else its number.

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
    """The mean cost that a policy predicts over the last exit's, in whatever unit; NaN where it does not say."""
    promise = policy.promise
    return nan if promise.cost_per_exit is None else promise.cost / float(promise.cost_per_exit[-1])
