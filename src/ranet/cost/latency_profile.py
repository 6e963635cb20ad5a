"""The record of a latency measurement: what each exit takes in milliseconds, and of what that holds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from ranet.errors import UserError
from ranet.files import written_whole
from ranet.strict_json import parse_strict_json

FORMAT = "ranet latency profile"
VERSION = 1
MILLISECONDS = 1e3  # in a second
UNSTEADY = 0.4  # of the median; on an idle machine spreads are below a tenth


@dataclass(frozen=True)
class Timings:
    """How long the same work took, run by run, in milliseconds for the whole batch.

    Attributes:
        median: of the runs.
        iqr: the interquartile range, from the 25th to the 75th percentile: how much the runs spread.
        p95: the 95th percentile; it means little where there are fewer than about 100 runs.
        runs: how many were timed.
    """

    median: float
    iqr: float
    p95: float
    runs: int

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Timings:
        """The summary of runs that were timed in seconds, at least one.

        Example:
            >>> Timings.of([0.001, 0.002, 0.003, 0.004, 0.005])
            Timings(median=3.0, iqr=2.0, p95=4.8, runs=5)
        """
        times = np.asarray(seconds) * MILLISECONDS
        low, median, high, p95 = np.quantile(times, [0.25, 0.5, 0.75, 0.95]).tolist()
        return cls(median, high - low, p95, len(times))


@dataclass(frozen=True)
class LatencyProfile:
    """How long each exit of a network takes for a batch, and what was measured on what.

    It holds for this batch size, image size, hardware and software alone: measure again where one of them changes.

    Attributes:
        network: fingerprint of the network that was measured, without its weights (`network_fingerprint`).
        batch_size: images in a batch.
        image_size: height and width of the images in pixels.
        device: type of the device, "cpu" or "cuda".
        hardware: name of the processor or GPU.
        threads: how many PyTorch used for one operator on the processor.
        dtype: precision of the weights and images, such as "float32".
        torch: version of PyTorch, and what it was built for.
        platform: the operating system.
        stages: K timings, of the backbone from the exit before (the first from the images) to this one, and its head.
        whole: of the network run at once to its last exit, to hold beside the sum of the stages.
    """

    network: str
    batch_size: int
    image_size: int
    device: str
    hardware: str
    threads: int
    dtype: str
    torch: str
    platform: str
    stages: tuple[Timings, ...]
    whole: Timings

    @property
    def num_exits(self) -> int:
        """Number of exits K."""
        return len(self.stages)

    @property
    def batch_ms_per_exit(self) -> list[float]:
        """Milliseconds until each exit has answered for the whole batch: sums of the stages' medians, in proportion.

        Stages that are run over and over find their weights in the cache, which a whole run does not; so the sums are
        scaled to end at what the whole network takes.
        """
        return _in_proportion([stage.median for stage in self.stages], self.whole.median)

    @property
    def ms_per_exit(self) -> list[float]:
        """Milliseconds for each image: ``batch_ms_per_exit`` divided by the batch size, the currency of mean costs.

        An image that leaves early saves this much only where the batch is filled up again behind it.
        """
        return [milliseconds / self.batch_size for milliseconds in self.batch_ms_per_exit]

    @property
    def batch_ms_per_exit_p95(self) -> list[float]:
        """A cautious ``batch_ms_per_exit``, for deadlines: the whole's 95th percentile, divided in the same proportion.

        It is no guarantee: one run of twenty takes longer, on this machine as it was when it was measured.
        """
        return _in_proportion([stage.median for stage in self.stages], self.whole.p95)

    @property
    def steady(self) -> bool:
        """Whether the runs agree: no stage spreads by more than UNSTEADY, nor do their sum and the whole differ so."""
        spread = max(timings.iqr / timings.median for timings in (*self.stages, self.whole))
        apart = abs(sum(stage.median for stage in self.stages) / self.whole.median - 1)
        return max(spread, apart) <= UNSTEADY

    def to_dict(self) -> dict[str, Any]:
        """Everything, cumulative figures included, as plain numbers and lists."""
        derived = ("num_exits", "batch_ms_per_exit", "ms_per_exit", "batch_ms_per_exit_p95")
        return {
            "format": FORMAT,
            "version": VERSION,
            "unit": "ms",
            **asdict(self),
            "stages": [asdict(stage) for stage in self.stages],
            **{name: getattr(self, name) for name in derived},
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


def _in_proportion(stages: Sequence[float], whole: float) -> list[float]:
    """Running sums of the stages' times, scaled so that the last is that of the whole."""
    sums = list(accumulate(stages))
    return [whole * (part / sums[-1]) for part in sums]


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
        if not is_count(content.get(name)):
            raise UserError(f'must have "{name}", a whole number of at least 1; measure it again.')
    for name in ("network", "device", "hardware", "dtype", "torch", "platform"):
        if not isinstance(content.get(name), str) or not content[name]:
            raise UserError(f'must have "{name}", a text; measure it again.')
    stages = content.get("stages")
    if not isinstance(stages, list) or not stages:
        raise UserError('must have "stages", a list with the timings of each exit; measure it again.')
    plain = {field.name: content[field.name] for field in fields(LatencyProfile) if field.name in content}
    timed = {"stages": tuple(_timings(stage, "stages") for stage in stages), "whole": _timings(content.get("whole"))}
    profile = LatencyProfile(**{**plain, **timed})
    expected = profile.to_dict()
    # The figures that follow from the timings are in the file, too, so most edits contradict something.
    for name in {**expected, **content}:
        if name not in expected or name not in content or expected[name] != content[name]:
            raise UserError(f'says something about "{name}" that does not follow from its timings; measure it again.')
    return profile


def _timings(content: object, name: str = "whole") -> Timings:
    given: Any = content if isinstance(content, dict) else {}
    median, iqr, p95, runs = (given.get(each) for each in ("median", "iqr", "p95", "runs"))
    if not (_is_finite(median) and _is_finite(iqr) and _is_finite(p95) and is_count(runs)):
        raise UserError(f'must have in "{name}" the numbers median, iqr, p95, runs of each timing; measure it again.')
    timings = Timings(median, iqr, p95, runs)
    if not (0 < timings.median <= timings.p95 and timings.iqr >= 0):
        raise UserError(
            f'has times in "{name}" that cannot be (the median must be above 0 and at most the p95, the iqr at least '
            "0); measure it again."
        )
    return timings


def is_count(value: object) -> bool:
    """Whether the value is a whole number of at least 1 (and a size that a tensor can have)."""
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value < 2**63


def _is_finite(value: object) -> bool:
    # The bound is for whole numbers, too: Python's may be too large for a float.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300
