"""What must stand in a policy file (pydantic models)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from math import inf
from typing import Annotated, Any, ClassVar, Self

import numpy as np
from pydantic import AfterValidator, Field, PlainValidator, Strict, model_validator

from ranet.calibration.policies.exit_policy import FORMAT
from ranet.calibration.scores.checks import Score
from ranet.support.records import LEFT_OUT, Count, Part, Record, Row, Text, like
from ranet.support.strict_json import shown

#: JSON has no infinities: no image leaves, or all images leave.
INFINITE = {"never": inf, "always": -inf}
SHARES_SUM_WITHIN = 1e-6
COSTS_AGREE_WITHIN = 1e-9  # of the last exit's cost: a mean of costs is rounded
#: Entries of the metadata that do not depend on the thresholds.
HOLDS_AFTER_EDITS = ("unit", "cost_per_exit", "part_costs", "network", "checkpoint", "data", "latency")
_LARGEST = float(np.finfo(np.float32).max)


def _threshold(value: Any) -> float:
    if isinstance(value, str) and value in INFINITE:
        return INFINITE[value]
    # Thresholds are float32: what is beyond them would silently become "never".
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST:
        return float(value)
    raise ValueError('must be a number in the range of float32, "never" or "always"')


def _valid(holds: Callable[[Any], bool], message: str) -> AfterValidator:
    """Return the validator of values of which this must hold."""

    def check(values: Any) -> Any:
        if not holds(values):
            raise ValueError(message)
        return values

    return AfterValidator(check)


_ASCENDING = _valid(
    lambda values: all(one < other for one, other in pairwise(values)),
    "must ascend, each entry more than the one before",
)
_LOWER_FIRST = _valid(lambda ends: ends[0] <= ends[1], "must have the lower end first")
_WHOLE = _valid(lambda shares: abs(sum(shares) - 1) <= SHARES_SUM_WITHIN, "must be shares that sum to 1")
Threshold = Annotated[float, PlainValidator(_threshold)]
Cost = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Exit = Annotated[int, Field(ge=0)]
Interval = Annotated[tuple[Cost, Cost], Strict(False), _LOWER_FIRST]


class Prediction(Part, extra="ignore"):
    """What a policy promises, all of it; other entries may be there, too."""

    images: Count
    cost: Cost
    cost_interval: Interval
    accuracy: Fraction | None
    accuracy_interval: Annotated[tuple[Fraction, Fraction], Strict(False), _LOWER_FIRST] | None
    level: Annotated[float, Field(gt=0, lt=1)]
    exit_shares: Annotated[Row[Fraction], _WHOLE]
    cost_counts: Row[Annotated[int, Field(ge=0)]] = LEFT_OUT


class Network(Part, extra="ignore"):
    """The network that a policy was solved for."""

    fingerprint: Text = LEFT_OUT


class Metadata(Part, extra="ignore"):
    """The entries of a policy's metadata that ranet knows; each may be left out, and others may be there, too."""

    policy: Text = LEFT_OUT
    ratio: Positive | None = None
    unit: Text = LEFT_OUT
    budget: Positive | None = None
    cost_per_exit: Annotated[Row[Cost], _ASCENDING] = LEFT_OUT
    part_costs: Row[Cost] = LEFT_OUT
    predicted: Prediction = LEFT_OUT
    network: Network = LEFT_OUT
    data: dict[Any, Any] = LEFT_OUT
    guarantee: dict[Any, Any] = LEFT_OUT
    deadline: Positive = LEFT_OUT
    exit_index: Exit = LEFT_OUT
    chosen: Text = LEFT_OUT
    instead_of: dict[Any, Any] = LEFT_OUT
    used_exits: Annotated[Row[Exit], Field(min_length=1), _ASCENDING] = LEFT_OUT
    score_distribution: Row[dict[Any, Any]] = LEFT_OUT
    solved_with: dict[str, str] = LEFT_OUT


class PolicyFile(Record):
    """The file of an exit policy.

    Attributes:
        score, temperatures, metadata: as in `ExitPolicy`.
        thresholds: numbers, "never" where no image leaves and "always" where all images do.
        software: the versions that wrote it.
    """

    FORMAT: ClassVar[str] = FORMAT
    VERSION: ClassVar[int] = 2
    NAME: ClassVar[str] = "policy file"
    WRITER: ClassVar[str] = "ranet calibrate"
    AGAIN: ClassVar[str] = "solve it again with ranet calibrate"
    IF_EDITED: ClassVar[str] = "it is followed as it is, without the predictions and guarantees that it had"

    score: Score
    thresholds: Row[Threshold]
    temperatures: Row[Positive] | None
    metadata: Annotated[dict[Any, Any], like(Metadata)]
    software: dict[str, str]

    def edited(self) -> Self:
        """Return the policy with what still holds after an edit: of what network it is, and what that costs."""
        metadata = {name: value for name, value in self.metadata.items() if name in HOLDS_AFTER_EDITS}
        return self.model_copy(update={"metadata": metadata})

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        exits, known = len(self.thresholds) + 1, self.metadata
        predicted, costs = known.get("predicted"), known.get("cost_per_exit")
        for where, values in {
            "temperatures": self.temperatures,
            "metadata.cost_per_exit": costs,
            "metadata.score_distribution": known.get("score_distribution"),
            "metadata.predicted.exit_shares": predicted and predicted["exit_shares"],
        }.items():
            if values is not None and len(values) != exits:
                raise ValueError(f"{where} must have an entry for each of the {exits} exits, not {shown(values)}")
        for where, index in (
            ("metadata.exit_index", known.get("exit_index", 0)),
            ("metadata.used_exits", known.get("used_exits", [0])[-1]),
        ):
            if index >= exits:
                raise ValueError(f"{where} must be from 0 to {exits - 1} for {exits} exits, not {index}")
        if predicted and (predicted["accuracy"] is None) != (predicted["accuracy_interval"] is None):
            where = "metadata.predicted.accuracy"
            raise ValueError(f"{where} and {where}_interval must both be null, or neither")
        if predicted and costs:
            highest, cost = costs[-1] + sum(known.get("part_costs", ())), predicted["cost"]
            slack = COSTS_AGREE_WITHIN * highest
            if not costs[0] - slack <= cost <= highest + slack:
                least, most = map(shown, (costs[0], highest))
                raise ValueError(
                    "metadata.predicted.cost must lie between the first and the last of metadata.cost_per_exit "
                    f"({least} and {most}), not be {shown(cost)}"
                )
        return self
