"""Latencies of fused stages that take known times, and of real ones."""

import copy
import statistics
from itertools import pairwise
from math import nan
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ranet import UserError, create_network, measure_latency
from ranet.inference import Timings
from ranet.inference.choosing.latency import covering_chains, time_fused_stages
from ranet.inference.choosing.open_backend import runtime_version
from ranet.inference.runtimes import stage_times
from ranet.inference.runtimes.backend import NetworkFacts, State
from ranet.inference.runtimes.stage_times import measure_stages
from ranet.inference.runtimes.torch_backend import TorchBackend
from ranet.inference.stages.fused_stages import FusedStage
from ranet.models import network_fingerprint
from ranet.support.hardware import device_name, processor_name

EXITS = 3
COPY = 0.25  # seconds of a clock that stands still otherwise


class KnownTimes:
    """A backend whose fused stages take the times that it is given, on a clock of its own.

    A stage that did not run in the last pass takes twice as long, as if it were in no cache.
    """

    name, precision, device = "torch", "float32", "cpu"

    def __init__(self, times: dict[FusedStage, float], fixed_sizes: tuple[int, ...] | None = None) -> None:
        self.facts = NetworkFacts(EXITS, 2, 4, True, tuple(range(EXITS)), "0123")
        self.fixed_sizes = fixed_sizes
        self.times = times
        self.clock = 0.0
        self.warm: set[FusedStage] = set()
        self.passes: list[list[FusedStage]] = [[]]

    def buffer(self, stage: FusedStage, size: int) -> State:
        return (np.full((size, 1), float(stage.first), dtype=np.float32),)

    def copy_rows(self, source: State, rows: npt.NDArray[np.intp] | None, target: State, at: int) -> None:
        self.clock += COPY
        if rows is None:
            assert source[0].shape[1:] == (3, 4, 4)
        else:
            target[0][at : at + len(rows)] = source[0][rows]

    def run(self, stage: FusedStage, state: State, rows: int) -> tuple[npt.NDArray[np.float32], State]:
        assert state[0].shape == (rows, 1)
        assert (state[0] == stage.first).all(), "what a stage starts from is what the one before it handed on"
        if stage.first == 0:
            self.warm = set(self.passes[-1])
            self.passes.append([])
        self.passes[-1].append(stage)
        self.clock += self.times[stage] * (1 if stage in self.warm else 2)
        return np.zeros((rows, 2), np.float32), (np.full((rows, 1), stage.last + 1.0, np.float32),)


STAGES = [FusedStage(a, b) for a in range(EXITS) for b in range(a, EXITS)]


@pytest.mark.parametrize("batch_size", [1, 4])
@pytest.mark.parametrize("run_time", [1000.0, 1e-6])
def test_the_table_is_that_of_the_times(batch_size: int, run_time: float, monkeypatch: pytest.MonkeyPatch) -> None:
    times = {stage: 1.0 + 2.0**i for i, stage in enumerate(STAGES)}
    backend = KnownTimes(times)
    monkeypatch.setattr(stage_times, "perf_counter", lambda: backend.clock)
    table = time_fused_stages(backend, batch_size, run_time)
    assert [len(row) for row in table] == [3, 2, 1]
    for stage in STAGES:
        timings = table[stage.first][stage.last - stage.first]
        # An engine copies images, and the rows that go on behind an exit; a single image it hands on as it is.
        copied = COPY if stage.first == 0 or batch_size > 1 else 0.0
        if run_time > 1:
            expected = 1e3 * (times[stage] + copied)
            assert (timings.median, timings.iqr, timings.p95) == (expected, 0.0, expected)
            assert timings.runs >= stage_times.ROUNDS
        else:  # for one run in each round: there is no time for a second one
            assert timings.runs % stage_times.ROUNDS == 0
            assert 1e3 * (times[stage] + copied) <= timings.median <= 1e3 * (2 * times[stage] + copied)
    # All the while it was whole networks that ran.
    for run in backend.passes[1:]:
        assert run[0].first == 0
        assert run[-1].last == EXITS - 1
        assert all(after.first == before.last + 1 for before, after in pairwise(run))


def test_the_time_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = KnownTimes(dict.fromkeys(STAGES, 0.001))
    monkeypatch.setattr(stage_times, "perf_counter", lambda: backend.clock)
    time_fused_stages(backend, 1, min_run_time=20.0)
    assert backend.clock == pytest.approx(20.0 * len(STAGES), rel=0.1)


def test_a_size_that_a_backend_would_pad_is_refused() -> None:
    backend = KnownTimes({}, fixed_sizes=(1, 8))
    with pytest.raises(UserError, match="batch_size=4 must be one of 1, 8, which are the sizes that the backend torch"):
        time_fused_stages(backend, 4, 1.0)


@pytest.mark.parametrize("exits", range(1, 10))
def test_chains_hold_every_fused_stage(exits: int) -> None:
    chains = covering_chains(exits)
    for chain in chains:
        assert (chain[0].first, chain[-1].last) == (0, exits - 1)
        assert all(after.first == before.last + 1 for before, after in pairwise(chain))
    held = [stage for chain in chains for stage in chain]
    assert set(held) == {FusedStage(a, b) for a in range(exits) for b in range(a, exits)}
    # No chain holds two stages that go over the middle, and there are so many of these: with fewer it cannot be done.
    fewest = (exits + 1) ** 2 // 4
    assert fewest <= len(chains) <= 1.05 * fewest


@pytest.mark.parametrize("name", ["msdnet_tiny", "ranet_tiny"])
def test_real_networks(name: str) -> None:
    network = create_network(name).train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    random, threads = torch.random.get_rng_state(), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        profile = measure_latency(network, batch_size=2, backend="torch", threads=1, min_run_time=0.02)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(torch.random.get_rng_state(), random)
    assert all(module.training for module in network.modules())
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    exits = network.num_exits
    assert profile.network == network_fingerprint(network, weights=False)
    assert (profile.backend, profile.precision, profile.batch_size, profile.image_size) == ("torch", "float32", 2, 32)
    assert (profile.device, profile.hardware, profile.threads) == ("cpu", processor_name(), 1)
    assert profile.runtime_version == runtime_version("torch")
    assert torch.__version__.startswith(profile.runtime_version.split("+")[0])
    table = profile.table_ms
    assert table.shape == (exits, exits)
    assert np.isfinite(table[np.triu_indices(exits)]).all()
    assert np.isnan(table[np.tril_indices(exits, -1)]).all()
    # The whole network takes longer than its first part, and about as long as its stages one by one.
    assert table[0, 0] < table[0, -1]
    assert 1 / 4 < np.diag(table).sum() / table[0, -1] < 4
    alone = profile.batch_ms_alone_p95
    assert alone == sorted(set(alone))
    assert all(slow >= 2 * median for slow, median in zip(alone, table[0], strict=True))
    network(torch.randn(2, 3, 32, 32)).sum().backward()  # it can still be trained


def test_times_are_near_those_that_the_engine_measures() -> None:
    network = create_network("msdnet_tiny").eval()
    profile = measure_latency(network, 8, backend="torch", min_run_time=0.05)
    whole = FusedStage(0, network.num_exits - 1)
    times = measure_stages(TorchBackend(network), [[whole]], [8])
    assert 1 / 4 < 8 * profile.table_ms[0, -1] / times.step(whole, 8) < 4


@pytest.mark.parametrize(
    ("backend", "precision"), [("onnxruntime", "float32"), pytest.param("openvino", "bfloat16", marks=pytest.mark.slow)]
)
def test_other_runtimes(backend: str, precision: str) -> None:
    pytest.importorskip(backend)
    network = create_network("msdnet_tiny", blocks=3)
    try:
        profile = measure_latency(network, backend=backend, precision=precision, threads=1, min_run_time=0.01)
    except UserError as error:
        if "does not compute in bfloat16" not in str(error):
            raise
        pytest.skip(str(error))
    assert (profile.backend, profile.precision, profile.threads) == (backend, precision, 1)
    assert profile.runtime_version == runtime_version(backend)
    assert (profile.table_ms[np.triu_indices(len(profile.table_ms))] > 0).all()
    if backend == "openvino":
        with pytest.raises(UserError, match="batch_size=3 must be one of 1, 2, 4"):
            measure_latency(network, 3, backend=backend, threads=1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("batch_size", [1, 256])
def test_on_the_gpu_the_time_is_that_of_finished_work(batch_size: int) -> None:
    network = create_network("msdnet_tiny")
    profile = measure_latency(network, batch_size, min_run_time=0.1, device="cuda")
    assert (profile.backend, profile.device) == ("torch", "cuda:0")
    assert profile.hardware == torch.cuda.get_device_name()
    assert next(network.parameters()).device.type == "cpu"
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    images = torch.randn(batch_size, 3, 32, 32, device="cuda")
    backend = TorchBackend(copy.deepcopy(network), "cuda")
    whole = FusedStage(0, network.num_exits - 1)
    for _ in range(10):
        start.record()
        backend.run(whole, (images,), batch_size)
        end.record()
        end.synchronize()
    assert profile.table_ms[0, -1] * batch_size == pytest.approx(start.elapsed_time(end), rel=1.0)


@given(st.lists(st.floats(1e-6, 1e3), min_size=2, max_size=50))
def test_the_summary_is_that_of_the_standard_library(seconds: list[float]) -> None:
    timings = Timings.of(seconds)
    twentieths = statistics.quantiles([1000 * each for each in seconds], n=20, method="inclusive")
    assert timings.median == pytest.approx(1000 * statistics.median(seconds))
    assert timings.p95 == pytest.approx(twentieths[18])
    assert timings.iqr == pytest.approx(twentieths[14] - twentieths[4], abs=1e-9 * max(twentieths))
    assert timings.runs == len(seconds)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size=0 must be"),
        ({"batch_size": 1.5}, r"batch_size=1.5 must be"),
        ({"batch_size": True}, r"batch_size=True must be"),
        ({"batch_size": 10**10}, "cannot run on a batch of 10000000000 images in the backend torch on cpu; choose a"),
        ({"batch_size": 2**62}, "cannot run on a batch"),
        ({"min_run_time": 0.0}, "min_run_time=0.0 must be"),
        ({"min_run_time": nan}, "min_run_time=nan must be"),
        ({"threads": 0}, "threads=0 must be"),
        ({"device": "banana"}, "no device 'banana'"),
        ({"device": "meta"}, "device=meta cannot be timed"),
        ({"device": "cuda:99"}, "cannot be put on the device 'cuda:99'"),
        ({"backend": "tensorflow"}, "Unknown backend 'tensorflow'"),
        ({"precision": "int8"}, "Unknown precision 'int8'"),
        ({"backend": "onnxruntime", "precision": "bfloat16"}, "ONNX Runtime does not compute in bfloat16"),
    ],
)
def test_what_cannot_be_measured_is_named(options: dict[str, Any], message: str) -> None:
    network = create_network("msdnet_tiny", blocks=3).train()
    if "backend" in options and options["backend"] == "onnxruntime":
        pytest.importorskip("onnxruntime")
    with pytest.raises(UserError, match=message) as raised:
        measure_latency(network, **{"backend": "torch", **options})
    assert len(str(raised.value).splitlines()) == 1
    assert network.training


def test_an_error_of_the_runtime_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("CUDA out of memory.\nMore lines.")

    monkeypatch.setattr(KnownTimes, "run", fails)
    with pytest.raises(UserError, match=r"batch of 4 images in the backend torch on cpu; .* \(CUDA out of memory\)\.$"):
        time_fused_stages(KnownTimes({}), 4, 1.0)


def test_names_of_devices() -> None:
    assert processor_name()
    assert device_name(torch.device("cpu")) == processor_name()
    assert device_name(torch.device("meta")) == "meta"
