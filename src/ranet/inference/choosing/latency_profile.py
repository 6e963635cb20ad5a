"""The record of a latency measurement: what every fused stage takes in milliseconds, and of what that holds."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ranet.cost.fused_stage_costs import FusedStageCosts
from ranet.cost.timings import Timings
from ranet.errors import UserError
from ranet.inference.choosing.open_backend import BACKENDS
from ranet.inference.runtimes.backend import PRECISIONS
from ranet.models.specs import ImageSize
from ranet.support.files import written_whole
from ranet.support.numbers import is_count
from ranet.support.strict_json import parse_strict_json

FORMAT = "ranet latency profile"
VERSION = 2
UNSTEADY = 0.4  # of the median; on an idle machine spreads are below a tenth


@dataclass(frozen=True)
class LatencyProfile:
    """How long every fused stage of a network takes for a batch in the early-exit engine.

    What was measured on what stands beside it. It holds for this backend, precision, batch size, hardware and software
    alone: measure again where one of them changes.

    Attributes:
        network: fingerprint of the network that was measured, without its weights (`ranet.models.network_fingerprint`).
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

    network: str
    backend: str
    runtime_version: str
    precision: str
    batch_size: int
    image_size: ImageSize
    device: str
    hardware: str
    threads: int | None
    platform: str
    stages: tuple[tuple[Timings, ...], ...]

    @property
    def num_exits(self) -> int:
        """Number of exits K."""
        return len(self.stages)

    @property
    def table_ms(self) -> npt.NDArray[np.float64]:
        """(K, K) milliseconds of an image: ``table_ms[a, b]`` is the median of the stages a..b; NaN below the diagonal.

        These are the batch's divided by its size: an image that leaves early saves this much where the batch is filled
        up again behind it, as `ranet.EarlyExitEngine.stream` does.
        """
        return self._table(lambda timings: timings.median / self.batch_size)

    @property
    def fused_stage_costs(self) -> FusedStageCosts:
        """``table_ms`` as the costs by which exits and thresholds are chosen (`ranet.calibration.calibrate_exits`)."""
        return FusedStageCosts(self.table_ms)

    @property
    def batch_ms_alone_p95(self) -> list[float]:
        """(K,) cautious milliseconds until each exit has answered the whole batch, if nobody leaves before; increasing.

        For deadlines: the 95th percentile of the stages up to the exit as one fused stage. It is no guarantee: one run
        of twenty takes longer, on this machine as it was when it was measured.
        """
        alone: list[float] = FusedStageCosts(self._table(lambda timings: timings.p95)).alone.tolist()
        return alone

    @property
    def steady(self) -> bool:
        """Whether the runs agree: no fused stage spreads by more than UNSTEADY."""
        return all(timings.iqr <= UNSTEADY * timings.median for row in self.stages for timings in row)

    def to_dict(self) -> dict[str, Any]:
        """Everything, the figures that follow from the timings included, as plain numbers and lists."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "unit": "ms",
            **asdict(self),
            "stages": [[asdict(timings) for timings in row] for row in self.stages],
            "num_exits": self.num_exits,
            "ms_per_image": [row[first:] for first, row in enumerate(self.table_ms.tolist())],
            "batch_ms_alone_p95": self.batch_ms_alone_p95,
        }

    def save(self, path: str | Path) -> None:
        """Write ``to_dict()`` as JSON, whole or not at all."""
        with written_whole(path) as partial:
            partial.write_text(json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> LatencyProfile:
        """Read what `save` wrote.

        Raises:
            UserError: if the file is missing, is not JSON, is not a latency profile of this format and version, or
                says something that cannot be or does not go together.
        """
        where = f"The latency profile {str(path)!r}"
        try:
            content = parse_strict_json(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise UserError(f"{where} does not exist; LatencyProfile.save writes one.") from error
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{where} cannot be read as text: {error}.") from error
        except ValueError as error:
            raise UserError(f"{where} is not valid JSON ({error}); measure it again.") from error
        try:
            return _profile(content)
        except UserError as error:
            raise UserError(f"{where} {error}") from error

    def _table(self, of: Callable[[Timings], float]) -> npt.NDArray[np.float64]:
        table = np.full((self.num_exits, self.num_exits), np.nan)
        for first, row in enumerate(self.stages):
            table[first, first:] = [of(timings) for timings in row]
        return table


def _profile(content: object) -> LatencyProfile:
    """The profile that a file's content says; the messages of errors continue a sentence about the file."""
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(f'is none: it must be an object with "format": "{FORMAT}".')
    version = content.get("version")
    if not is_count(version):
        raise UserError('must have a whole number as "version"; measure it again.')
    if version != VERSION:
        raise UserError(f"has version {version} and this ranet reads {VERSION}: measure it again, or update ranet.")
    for name in ("batch_size", "image_size", "threads"):
        if not is_count(content.get(name)) and not (name == "threads" and content.get(name, 0) is None):
            raise UserError(f'must have "{name}", a whole number of at least 1; measure it again.')
    for name in ("network", "device", "hardware", "runtime_version", "platform"):
        if not isinstance(content.get(name), str) or not content[name]:
            raise UserError(f'must have "{name}", a text; measure it again.')
    for name, known in (("backend", BACKENDS), ("precision", PRECISIONS)):
        if content.get(name) not in known:
            raise UserError(f'must have "{name}", one of {", ".join(known)}; measure it again.')
    plain = {field.name: content[field.name] for field in fields(LatencyProfile) if field.name in content}
    profile = LatencyProfile(**{**plain, "stages": _stages(content.get("stages"))})
    expected = profile.to_dict()
    # The figures that follow from the timings are in the file, too, so most edits contradict something.
    for name in {**expected, **content}:
        if name not in expected or name not in content or expected[name] != content[name]:
            raise UserError(f'says something about "{name}" that does not follow from its timings; measure it again.')
    return profile


def _stages(content: object) -> tuple[tuple[Timings, ...], ...]:
    rows: Any = content if isinstance(content, list) else []
    shortening = [isinstance(row, list) and len(row) == len(rows) - first for first, row in enumerate(rows)]
    if not rows or not all(shortening):
        raise UserError(
            'must have "stages", a list for each exit with the timings of the fused stages that start behind the exit '
            "before it, each list shorter by one than that before; measure it again."
        )
    return tuple(tuple(_timings(timings) for timings in row) for row in rows)


def _timings(content: object) -> Timings:
    given: Any = content if isinstance(content, dict) else {}
    median, iqr, p95, runs = (given.get(each) for each in ("median", "iqr", "p95", "runs"))
    if not (_is_finite(median) and _is_finite(iqr) and _is_finite(p95) and is_count(runs)):
        raise UserError('must have in "stages" the numbers median, iqr, p95, runs of each timing; measure it again.')
    timings = Timings(median, iqr, p95, runs)
    if not (0 < timings.median <= timings.p95 and timings.iqr >= 0):
        raise UserError(
            'has times in "stages" that cannot be (the median must be above 0 and at most the p95, the iqr at least '
            "0); measure it again."
        )
    return timings


def _is_finite(value: object) -> bool:
    # The bound is for whole numbers, too: Python's may be too large for a float.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300
