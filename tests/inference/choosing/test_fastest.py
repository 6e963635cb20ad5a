"""The fastest backend is measured once and remembered."""

import json
from pathlib import Path
from typing import Any

import pytest

from ranet.errors import UserError
from ranet.inference.choosing import open_backend as module
from ranet.inference.choosing.open_backend import fastest
from ranet.inference.runtimes.backend import NetworkFacts, Runtime, sized
from ranet.inference.runtimes.stage_times import StageTimes
from ranet.inference.stages.fused_stages import FusedStage
from tests.inference.times import stage_times


class Pretended:
    """A backend of which only the times are asked: milliseconds for each row, and for each batch."""

    facts = NetworkFacts(2, 10, 32, True, (0, 1), "0123456789abcdef")

    def __init__(self, name: str, row: float, batch: float, fixed_sizes: tuple[int, ...] | None = None) -> None:
        self.name, self.row, self.batch, self.fixed_sizes = name, row, batch, fixed_sizes


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the backends that were measured."""
    names: list[str] = []

    def measure(backend: Any, chains: list[list[FusedStage]], sizes: list[int]) -> StageTimes:
        names.append(backend.name)
        assert all(sized(backend, size) == size for size in sizes)
        (stages,) = chains
        times = [backend.batch + backend.row * size for size in sizes]
        return stage_times(sizes, dict.fromkeys(stages, times))

    monkeypatch.setattr(module, "measure_stages", measure)
    return names


def choose(backends: list[Pretended], cache: Path, **options: Any) -> str:
    made = {backend.name: backend for backend in backends}
    runtime = Runtime(**{"cache": cache, **options})
    return fastest(list(made), made.__getitem__, "0123456789abcdef", runtime).name  # type: ignore[arg-type]


def test_one_image_and_a_batch_count_alike(measured: list[str], tmp_path: Path) -> None:
    slow_start, slow_rows = Pretended("torch", row=1.0, batch=9.0), Pretended("openvino", row=2.0, batch=1.0)
    # For one image and 32: (10, 1.28) against (3, 2.03) milliseconds an image; 12.8 against 6.1.
    assert choose([slow_start, slow_rows], tmp_path) == "openvino"
    # (10, 1.28) against (9, 8.03).
    assert choose([slow_start, Pretended("onnxruntime", row=8.0, batch=1.0)], tmp_path) == "torch"


def test_padding_counts(measured: list[str], tmp_path: Path) -> None:
    """An image alone costs a backend that only runs batches of 32 as much as the whole batch."""
    any_size = Pretended("torch", row=1.0, batch=3.0)
    assert choose([any_size, Pretended("openvino", 0.9, 0.0, (32,))], tmp_path) == "torch"
    assert choose([any_size, Pretended("openvino", 0.9, 0.0, (1, 32))], tmp_path, threads=97) == "openvino"


def test_it_is_measured_once_for_what_it_depends_on(measured: list[str], tmp_path: Path) -> None:
    backends = [Pretended("torch", 1.0, 9.0), Pretended("openvino", 2.0, 1.0)]
    for _ in range(2):
        assert choose(backends, tmp_path) == "openvino"
    assert measured == ["torch", "openvino"]
    for options in ({"precision": "bfloat16"}, {"threads": 1}, {"batch_sizes": (1, 8)}):
        choose(backends, tmp_path, **options)
    assert len(measured) == 8
    assert choose(backends[:1], tmp_path) == "torch"
    assert len(measured) == 8  # one alone needs no measurement


def test_one_that_cannot_run_the_network_is_no_candidate(measured: list[str], tmp_path: Path) -> None:
    made = {"torch": Pretended("torch", 9.0, 9.0), "onnxruntime": Pretended("onnxruntime", 1.0, 1.0)}

    def make(name: str) -> Any:
        if name in refused:
            raise UserError(f"{name} cannot.")
        return made[name]

    def run() -> str:
        return fastest(["torch", "onnxruntime"], make, "0123", Runtime(cache=tmp_path / "-".join(refused))).name

    refused = {"onnxruntime"}
    assert run() == "torch"
    refused = set()
    assert run() == "onnxruntime"
    refused = {"onnxruntime", "torch"}
    with pytest.raises(UserError, match="torch cannot"):
        run()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"fastest": "tensorrt"}', '{"fastest": NaN}'])
def test_a_damaged_memory_is_none(measured: list[str], tmp_path: Path, content: str) -> None:
    backends = [Pretended("torch", 1.0, 9.0), Pretended("openvino", 2.0, 1.0)]
    choose(backends, tmp_path)
    (path,) = (tmp_path / "backends").iterdir()
    assert json.loads(path.read_text())["fastest"] == "openvino"
    path.write_text(content)
    assert choose(backends, tmp_path) == "openvino"
    assert len(measured) == 4


def test_a_cache_that_cannot_be_written_does_no_harm(measured: list[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    backends = [Pretended("torch", 1.0, 9.0), Pretended("openvino", 2.0, 1.0)]
    assert choose(backends, tmp_path / "file") == "openvino"
