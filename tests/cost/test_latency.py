"""Latencies of networks whose stages take known times, and files that must not be believed."""

import copy
import json
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ranet import StagedNetwork, UserError, create_network
from ranet.cost import LatencyProfile, Timings, measure_latency
from ranet.hardware import device_name, processor_name
from ranet.models.staged import State

SLEEPS = [0.003, 0.012, 0.006]


class Sleepy(StagedNetwork):
    """A network whose stages and heads sleep, and which says what it is asked to a function (copies share it)."""

    def __init__(self, say: Callable[..., object] = lambda *said: None, stem: float = 0.0, head: float = 0.0) -> None:
        super().__init__(num_classes=2, image_size=4)
        self.heads = nn.ModuleList(nn.Linear(1, 2) for _ in SLEEPS)
        self.say, self.stem_sleeps, self.head_sleeps = say, stem, head

    def stem(self, images: Tensor) -> State:
        time.sleep(self.stem_sleeps)
        self.say("stem", tuple(images.shape), self.training, torch.is_grad_enabled(), torch.get_num_threads())
        return (images.mean(dim=(1, 2, 3))[:, None],)

    def advance(self, k: int, state: State) -> State:
        time.sleep(SLEEPS[k])
        return (state[0] + 1,)

    def features(self, k: int, state: State) -> Tensor:
        time.sleep(self.head_sleeps)
        return state[0]

    def classify(self, k: int, state: State, previous_logits: Tensor | None = None) -> Tensor:
        self.say("classify", k, previous_logits)
        self.features(k, state)
        return torch.full((len(state[0]), 2), float(k))


def test_stages_take_the_time_that_they_sleep() -> None:
    profile = measure_latency(Sleepy(stem=0.005, head=0.001), min_run_time=0.1)
    asleep = [9.0, 13.0, 7.0]  # milliseconds: stage and head, and for the first the stem
    for stage, at_least in zip(profile.stages, asleep, strict=True):
        assert stage.median >= at_least
        assert stage.median < at_least + 10
        assert stage.p95 >= stage.median
        assert stage.iqr >= 0
        assert stage.runs >= 100 / (stage.p95 + 10)
    assert profile.whole.median >= sum(asleep)
    assert profile.batch_ms_per_exit[-1] == pytest.approx(profile.whole.median, rel=0.5)


def test_each_stage_gets_what_it_gets_in_the_network() -> None:
    said: list[tuple[Any, ...]] = []
    network = Sleepy(lambda *what: said.append(what)).train()
    network.heads[1].eval()
    threads = torch.get_num_threads()
    state = torch.random.get_rng_state()
    torch.set_num_threads(2)
    try:
        profile = measure_latency(network, 3, 8, min_run_time=0.01)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert profile.threads == 2
    stems = [what[1:] for what in said if what[0] == "stem"]
    assert set(stems) == {((3, 3, 8, 8), False, False, 2)}
    for _, k, previous in (what for what in said if what[0] == "classify"):
        if k == 0:
            assert previous is None
        else:
            assert (previous == k - 1).all()
    assert network.training
    assert [head.training for head in network.heads] == [True, False, True]
    assert torch.equal(torch.random.get_rng_state(), state)


def test_runs_that_warm_up_are_not_counted() -> None:
    calls = iter(range(10**6))

    def slow_at_first(part: str, *said: object) -> None:
        if part == "stem" and next(calls) < 3:
            time.sleep(0.2)

    first = measure_latency(Sleepy(slow_at_first), min_run_time=0.03).stages[0]
    assert next(calls) > 3
    assert first.p95 < 100


@pytest.mark.parametrize("name", ["msdnet_tiny", "ranet_tiny"])
def test_real_networks(name: str) -> None:
    network = create_network(name).train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    profile = measure_latency(network, batch_size=2, min_run_time=0.05)
    assert profile.num_exits == network.num_exits
    assert profile.batch_ms_per_exit[0] > 0
    assert profile.batch_ms_per_exit == sorted(set(profile.batch_ms_per_exit))
    assert [2 * each for each in profile.ms_per_exit] == profile.batch_ms_per_exit
    assert all(a >= b for a, b in zip(profile.batch_ms_per_exit_p95, profile.batch_ms_per_exit, strict=True))
    assert 1 / 4 < profile.batch_ms_per_exit[-1] / profile.whole.median < 4
    assert all(module.training for module in network.modules())
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert (profile.batch_size, profile.image_size, profile.dtype) == (2, 32, "float32")
    assert (profile.device, profile.hardware, profile.torch) == ("cpu", processor_name(), torch.__version__)


def test_a_network_can_be_trained_after_it_was_measured() -> None:
    network = create_network("ranet_tiny")
    measure_latency(network, min_run_time=0.001)
    network.train()(torch.randn(2, 3, 32, 32)).sum().backward()


def test_a_network_of_another_precision_is_measured_in_it() -> None:
    assert measure_latency(create_network("msdnet_tiny").double(), min_run_time=0.001).dtype == "float64"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_on_the_gpu_the_time_is_that_of_finished_work() -> None:
    network = create_network("msdnet_tiny")
    profile = measure_latency(network, batch_size=256, min_run_time=0.1, device="cuda")
    assert (profile.device, profile.hardware) == ("cuda", torch.cuda.get_device_name())
    assert next(network.parameters()).device.type == "cpu"
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    on_gpu, images = copy.deepcopy(network).eval().cuda(), torch.randn(256, 3, 32, 32, device="cuda")
    with torch.inference_mode():
        for _ in range(10):
            start.record()
            on_gpu(images)
            end.record()
            end.synchronize()
    assert profile.whole.median == pytest.approx(start.elapsed_time(end), rel=1.0)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(1e-6, 1e3), min_size=2, max_size=50))
def test_the_summary_is_that_of_the_standard_library(seconds: list[float]) -> None:
    timings = Timings.of(seconds)
    twentieths = statistics.quantiles([1000 * each for each in seconds], n=20, method="inclusive")
    assert timings.median == pytest.approx(1000 * statistics.median(seconds))
    assert timings.p95 == pytest.approx(twentieths[18])
    assert timings.iqr == pytest.approx(twentieths[14] - twentieths[4], abs=1e-9 * max(twentieths))
    assert timings.runs == len(seconds)


class Picky(Sleepy):
    def stem(self, images: Tensor) -> State:
        if images.shape[-1] < 4:
            raise RuntimeError("Kernel size can't be greater than actual input size")
        return super().stem(images)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size=0 must be"),
        ({"batch_size": 1.5}, r"batch_size=1.5 must be"),
        ({"image_size": -1}, "image_size=-1 must be"),
        ({"image_size": True}, "image_size=True must be"),
        ({"image_size": 3}, "batch of 1 images of 3 pixels on cpu; choose others .Kernel size can't"),
        ({"batch_size": 10**9, "image_size": 10**5}, "cannot run on a batch of 1000000000 images"),
        ({"batch_size": 2**62}, "cannot run on a batch"),
        ({"min_run_time": 0.0}, "min_run_time=0.0 must be"),
        ({"min_run_time": nan}, "min_run_time=nan must be"),
        ({"device": "banana"}, "cannot be put on the device 'banana'"),
        ({"device": "meta"}, "nothing takes time"),
        ({"device": "cuda:99"}, "cannot be put on the device 'cuda:99'"),
    ],
)
def test_what_cannot_be_measured_is_named(options: dict[str, Any], message: str) -> None:
    network = Picky().train()
    with pytest.raises(UserError, match=message) as raised:
        measure_latency(network, **options)
    assert len(str(raised.value).splitlines()) == 1
    assert network.training


def test_names_of_devices() -> None:
    assert processor_name()
    assert device_name(torch.device("cpu")) == processor_name()
    assert device_name(torch.device("meta")) == "meta"


PROFILE = LatencyProfile(
    network="0123456789abcdef",
    batch_size=4,
    image_size=32,
    device="cpu",
    hardware="A processor (µ)",
    threads=2,
    dtype="float32",
    torch="2.11.0",
    platform="Linux",
    stages=(Timings(1.5, 0.25, 2.5, 20), Timings(0.3, 0.0, 0.3, 1), Timings(2.0, 0.5, 4.0, 10)),
    whole=Timings(3.7, 0.5, 6.0, 12),
)


def test_currencies_by_hand() -> None:
    assert PROFILE.num_exits == 3
    parts = np.array([1.5, 1.8, 3.8]) / 3.8
    assert PROFILE.batch_ms_per_exit == pytest.approx(3.7 * parts)
    assert PROFILE.ms_per_exit == pytest.approx(3.7 / 4 * parts)
    assert PROFILE.batch_ms_per_exit_p95 == pytest.approx(6.0 * parts)


def test_steady_is_what_spreads_little_and_adds_up() -> None:
    """The middle stage of the profile has run once, the others spread by a quarter of their median at most."""
    assert PROFILE.steady
    wide = replace(PROFILE.whole, iqr=0.5 * PROFILE.whole.median)
    assert not replace(PROFILE, whole=wide).steady
    assert not replace(PROFILE, whole=replace(PROFILE.whole, median=1.9, p95=6.0)).steady


def test_a_saved_profile_is_the_same_when_loaded(tmp_path: Path) -> None:
    measured = measure_latency(create_network("msdnet_tiny"), min_run_time=0.001)
    for profile in (PROFILE, measured):
        profile.save(tmp_path / "deep" / "latency.json")
        assert LatencyProfile.load(tmp_path / "deep" / "latency.json") == profile
    written = json.loads((tmp_path / "deep" / "latency.json").read_text())
    assert written["ms_per_exit"] == measured.ms_per_exit
    assert written["unit"] == "ms"
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["latency.json"]


def places(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value in a JSON document, the document's own first."""
    yield path
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, item in items:
        yield from places(item, (*path, key))


def changed(content: Any, path: tuple[Any, ...], change: Callable[[Any, Any], None]) -> Any:
    """A copy of the document in which the value at a path, in its container, was changed."""
    document = copy.deepcopy([content])
    container: Any = document
    for key in (0, *path)[:-1]:
        container = container[key]
    change(container, (0, *path)[-1])
    return document[0] if document else None


def loaded_or_said(path: Path) -> tuple[LatencyProfile | None, str]:
    try:
        return LatencyProfile.load(path), ""
    except UserError as error:
        return None, str(error)


VALUES = [None, True, "", "1", -1, 0, 10**400, -0.5, 1e999, nan, [], {}, [1.0], {"median": 1.0}]


def test_no_mutated_file_is_believed(tmp_path: Path) -> None:
    """Each value is taken away or replaced by each of a list; only another text for a text can be believed."""
    good = PROFILE.to_dict()
    path, refused = tmp_path / "latency.json", 0

    def put(value: Any) -> Callable[[Any, Any], None]:
        return lambda container, key: container.__setitem__(key, value)

    mutations = [lambda container, key: container.__delitem__(key), *map(put, VALUES)]
    for at in places(good):
        for mutate in mutations:
            content = changed(json.loads(json.dumps(good)), at, mutate)
            path.write_text(json.dumps(content))
            loaded, said = loaded_or_said(path)
            if loaded is None:
                assert len(said.splitlines()) == 1
                assert str(path) in said
                refused += 1
                continue
            key = at[-1]
            # A text may be another text, a spread another spread: nothing else in the file knows better.
            assert key == "iqr" or isinstance(good[key], str) or content == good, (at, content)
            assert loaded.to_dict() == content
    assert refused > 500


def test_cut_files_are_refused(tmp_path: Path) -> None:
    text = json.dumps(PROFILE.to_dict())
    path = tmp_path / "latency.json"
    for length in range(len(text)):
        path.write_text(text[:length])
        with pytest.raises(UserError, match="is not valid JSON"):
            LatencyProfile.load(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "ranet exit policy"}, "is none"),
        ({"version": 2}, "has version 2 and this ranet reads 1"),
        ({"version": True}, 'a whole number as "version"'),
        ({"unit": "s"}, '"unit"'),
        ({"batch_size": 8}, '"ms_per_exit"'),
        ({"num_exits": 4}, '"num_exits"'),
        ({"stages": []}, '"stages"'),
        ({"note": None}, '"note"'),
        ({"whole": {"median": 2.0, "iqr": 0.0, "p95": 1.0, "runs": 1}}, 'times in "whole" that cannot be'),
        ({"whole": {"median": 1.0, "iqr": 0.0, "p95": 1.0, "runs": 0}}, 'in "whole" the numbers'),
    ],
)
def test_what_is_wrong_with_a_file_is_said(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    (tmp_path / "latency.json").write_text(json.dumps({**PROFILE.to_dict(), **change}))
    with pytest.raises(UserError, match=message):
        LatencyProfile.load(tmp_path / "latency.json")


def test_figures_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    faster = replace(PROFILE, stages=(replace(PROFILE.stages[0], median=1.0), *PROFILE.stages[1:])).to_dict()
    (tmp_path / "latency.json").write_text(json.dumps({**PROFILE.to_dict(), "stages": faster["stages"]}))
    with pytest.raises(UserError, match='"batch_ms_per_exit" that does not follow'):
        LatencyProfile.load(tmp_path / "latency.json")


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        LatencyProfile.load(tmp_path / "latency.json")
    with pytest.raises(UserError, match="cannot be read"):
        LatencyProfile.load(tmp_path)
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="cannot be read"):
        LatencyProfile.load(tmp_path / "binary.json")
    (tmp_path / "deep.json").write_text("[" * 10**5)
    with pytest.raises(UserError, match="not valid JSON"):
        LatencyProfile.load(tmp_path / "deep.json")
