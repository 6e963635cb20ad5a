"""The record of a latency measurement: the milliseconds of every fused stage, and the conditions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, model_validator

from ranet.cost.table import CostTable
from ranet.cost.timings import Timings
from ranet.inference.choosing.open_backend import BACKENDS
from ranet.inference.runtimes.backend import Precision
from ranet.support.records import Count, Name, Part, Record, Row
from ranet.support.shapes import ImageSize, checked_image_size
from ranet.support.strict_json import plain

UNSTEADY = 0.4  # of the median; on an idle machine spreads are below a tenth


class _Timings(Part):
    median: Annotated[float, Field(gt=0)]
    iqr: Annotated[float, Field(ge=0)]
    p95: float
    runs: Count

    @model_validator(mode="after")
    def _ascend(self) -> Self:
        if self.median > self.p95:
            raise ValueError("must have a median of at most the p95")
        return self


def _timings(given: Any) -> Any:
    return given if isinstance(given, Timings) else Timings(**_Timings.model_validate(given).model_dump())


def _known(backend: str) -> str:
    if backend not in BACKENDS:
        raise ValueError(f"must be one of {', '.join(BACKENDS)}")
    return backend


def _triangle(rows: tuple[tuple[Timings, ...], ...]) -> tuple[tuple[Timings, ...], ...]:
    if any(len(row) != len(rows) - first for first, row in enumerate(rows)):
        raise ValueError(
            "must have a list for each exit with the timings of the fused stages that start behind the exit before "
            "it, each list shorter by one than that before"
        )
    return rows


FusedStageTimings = Row[Annotated[Timings, BeforeValidator(_timings)]]


class LatencyProfile(Record):
    """How long every fused stage of a network takes for a batch in the early-exit engine.

    It holds for this backend, precision, batch size, hardware and software alone: measure again where one of them
    changes.

    Attributes:
        network: fingerprint of the network without its weights (`ranet.models.network_fingerprint`).
        backend: the runtime, "torch", "onnxruntime" or "openvino".
        runtime_version: of the runtime.
        precision: in which it computed, "float32" or "bfloat16".
        batch_size: images in a batch.
        image_size: height and width of the images in pixels.
        device: such as "cpu" or "cuda:0".
        hardware: name of the processor or GPU.
        threads: processor threads for one operator; None: not known.
        platform: the operating system.
        stages: K rows of timings; ``stages[a][b - a]`` is of the stages a..b (from 0) as one fused stage that is
            answered at exit b, its cut included (`ranet.measure_latency`). So the rows get shorter.
    """

    FORMAT: ClassVar[str] = "ranet latency profile"
    VERSION: ClassVar[int] = 2
    NAME: ClassVar[str] = "latency profile"
    WRITER: ClassVar[str] = "LatencyProfile.save"
    AGAIN: ClassVar[str] = "measure it again"
    SEALED: ClassVar[bool] = False

    network: Name
    backend: Annotated[str, AfterValidator(_known)]
    runtime_version: Name
    precision: Precision
    batch_size: Count
    image_size: Annotated[ImageSize, PlainValidator(checked_image_size)]
    device: Name
    hardware: Name
    threads: Count | None
    platform: Name
    stages: Annotated[Row[FusedStageTimings], Field(min_length=1), AfterValidator(_triangle)]

    @property
    def num_exits(self) -> int:
        """Number of exits K."""
        return len(self.stages)

    @property
    def table_ms(self) -> npt.NDArray[np.float64]:
        """(K, K) milliseconds of an image: ``table_ms[a, b]`` is the median of the stages a..b; NaN below the diagonal.

        These are the batch's divided by its size. An image that leaves early saves this much where another one takes
        its place in the batch, as in `ranet.EarlyExitEngine.stream`.
        """
        return self._table(lambda timings: timings.median / self.batch_size)

    @property
    def costs(self) -> CostTable:
        """``table_ms`` as the costs by which exits and thresholds are chosen (`ranet.calibrate`)."""
        return CostTable("ms", self.table_ms)

    @property
    def batch_ms_alone_p95(self) -> list[float]:
        """(K,) cautious milliseconds until each exit has answered a batch that no image leaves before it; increasing.

        For deadlines: the 95th percentile of the stages up to the exit as one fused stage, which one run of twenty
        exceeds on this machine.
        """
        alone: list[float] = CostTable("ms", self._table(lambda timings: timings.p95)).alone.tolist()
        return alone

    @property
    def steady(self) -> bool:
        """Whether the timings of no fused stage spread by more than UNSTEADY."""
        return all(timings.iqr <= UNSTEADY * timings.median for row in self.stages for timings in row)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON's types, with the figures that follow from the timings."""
        content: dict[str, Any] = plain(
            {
                "format": self.FORMAT,
                "version": self.VERSION,
                "unit": "ms",
                **self.model_dump(),
                "num_exits": self.num_exits,
                "ms_per_image": [row[first:] for first, row in enumerate(self.table_ms.tolist())],
                "batch_ms_alone_p95": self.batch_ms_alone_p95,
            }
        )
        return content

    def save(self, path: str | Path) -> None:
        """Write ``to_dict()`` as JSON, whole or not at all."""
        self.write(path, self.to_dict())

    @classmethod
    def load(cls, path: str | Path) -> LatencyProfile:
        """Read what `save` wrote; raise as `Record.read`, and where figures do not follow from the timings."""
        return cls.read(path)

    @classmethod
    def _of(cls, entries: Mapping[str, Any]) -> Self:
        profile = cls.model_validate({name: value for name, value in entries.items() if name in cls.model_fields})
        expected = profile.to_dict()
        del expected["format"], expected["version"]
        # Most edits contradict a figure that follows from the timings.
        for name in {**expected, **entries}:
            if name not in expected or name not in entries or expected[name] != entries[name]:
                raise ValueError(f'"{name}" does not follow from the timings')
        return profile

    def _table(self, of: Callable[[Timings], float]) -> npt.NDArray[np.float64]:
        table = np.full((self.num_exits, self.num_exits), np.nan)
        for first, row in enumerate(self.stages):
            table[first, first:] = [of(timings) for timings in row]
        return table
