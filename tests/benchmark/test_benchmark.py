"""A benchmark finds the times that there are and what follows from them, and says where early exit does not pay."""

import csv
import json
import math
import time
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from ranet import ExitPolicy, UserError, create_network, measure_costs
from ranet.benchmark import measure as measure_module
from ranet.benchmark import turns as turns_module
from ranet.benchmark.answers import Reference, Task, answer_all, reference_answers
from ranet.benchmark.figure import benchmark_figure
from ranet.benchmark.measure import ALL_EXITS, benchmark_setting, benchmark_settings
from ranet.benchmark.report import policy_rows, sentences, setting_sheet, write_benchmark
from ranet.benchmark.results import (
    CALL,
    STREAM,
    Benchmark,
    RivalTimes,
    Setting,
    SettingTimes,
    ideal_time,
    worth,
)
from ranet.benchmark.rivals import Rival, all_exits
from ranet.benchmark.turns import TRAINED_SHARE, WARM_UP, Amount, Pace, take_turns
from ranet.inference.runtimes import stage_times as stage_times_module
from ranet.inference.runtimes.stage_times import time_chains
from ranet.inference.stages.fused_stages import FusedStage
from ranet.support.sheet import Sheet
from tests.benchmark.made_up import (
    CLASSES,
    EXITS,
    LEAVING,
    Clock,
    SleepingBackend,
    found,
    images_that_leave_at,
    sleeping_engine,
    timing,
)
from tests.inference.networks import make
from tests.inference.replay import all_logits, between_scores, replayed

ALL = FusedStage(0, 0)
EXITS_OF_IMAGES = [0, 0, 1, 2] * 8
NEVER = np.array([math.nan] * EXITS)
#: Its multiply-adds are counted; it does not run.
COUNTED = create_network("msdnet_tiny", blocks=EXITS, num_classes=CLASSES)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """What sleeps takes exactly as long as it says."""
    clock = Clock()
    monkeypatch.setattr(time, "sleep", clock.sleep)
    for module in (measure_module, turns_module, stage_times_module):
        monkeypatch.setattr(module, "perf_counter", clock)


def benchmark_of(*results: SettingTimes, accuracies: Any = (0.5, 0.7, 0.75)) -> Benchmark:
    return Benchmark(results, 100, 5, np.array(accuracies), {"hardware": "a machine"}, ["Something was left out."])


@given(st.lists(st.integers(0, 5), min_size=1), st.sets(st.integers(0, 4)), st.integers(0, 99))
def test_the_ideal_is_what_each_image_runs(exits: list[int], cuts: set[int], seed: int) -> None:
    ends = [*sorted(cuts), 5]
    stages = [FusedStage(before + 1, at) for before, at in zip([-1, *ends[:-1]], ends, strict=True)]
    own = dict(zip(stages, np.random.default_rng(seed).random(len(stages)).tolist(), strict=True))
    of_each = [sum(own[stage] for stage in stages if stage.first <= exit) for exit in exits]
    assert ideal_time(own, stages, np.array(exits)) == pytest.approx(sum(of_each) / len(exits))


@given(st.lists(st.lists(st.floats(1e-6, 1), min_size=4, max_size=4), min_size=1, max_size=6))
def test_a_timing_is_the_medians_of_its_steps(seconds: list[list[float]]) -> None:
    of = Pace.of(seconds, images=8)
    medians = [sorted(each) for each in zip(*seconds, strict=True)]
    middle = [(each[(len(each) - 1) // 2] + each[len(each) // 2]) / 2 for each in medians]
    assert of.ms == pytest.approx(1000 * sum(middle) / 8)
    assert of.low <= of.ms * (1 + 1e-9)
    assert of.ms <= of.high * (1 + 1e-9)
    assert of.images_per_second == pytest.approx(8 / sum(middle))
    assert of.latency[0] == pytest.approx(1000 * np.median(np.array(seconds)))
    assert of.steps == 4 * len(seconds)


def test_what_disturbs_one_round_drops_out() -> None:
    quiet = [[0.002, 0.004]] * 4
    assert Pace.of([*quiet, [0.002, 5.0]], 2).ms == Pace.of(quiet, 2).ms == 3.0


def test_each_has_a_turn_in_each_round_and_follows_each_other_one() -> None:
    turns: list[str] = []
    ticks: list[int] = []
    contestants = {name: lambda name=name: turns.append(name) or len(turns) for name in "abcd"}
    results = take_turns(contestants, 40, lambda: ticks.append(1))
    rounds = ["".join(turns[at : at + 4]) for at in range(0, 160, 4)]
    assert [sorted(each) for each in rounds] == [["a", "b", "c", "d"]] * 40
    assert results["a"] == [at for at, name in enumerate(turns, start=1) if name == "a"]
    assert len(ticks) == 160
    # In 40 random orders each pair stands 10 times on average.
    follows = Counter(pair for each in rounds for pair in pairwise(each))
    assert {(one, other) for one in "abcd" for other in "abcd" if one != other} == set(follows)
    assert max(follows.values()) < 20
    assert set(Counter(each[0] for each in rounds)) == set("abcd")


def test_the_tail_of_a_few_steps_is_not_told() -> None:
    few, many = Pace.of([[0.001] * 33] * 3, 33), Pace.of([[0.001] * 25] * 4, 25)
    assert (few.steps, many.steps) == (99, 100)
    np.testing.assert_array_equal(few.latency, [1, math.nan, math.nan])
    np.testing.assert_allclose(many.latency, [1, 1, 1])
    assert few.to_dict()["steps"] == 99


def test_worth_without_truth() -> None:
    value = worth(np.array([1, 2]), np.array([1, 0]), None)
    assert math.isnan(value.accuracy)
    assert math.isnan(value.change)
    assert value.agreement == 0.5


def sleeping(monkeypatch: pytest.MonkeyPatch, for_row: float) -> None:
    """Let the network as trained sleep for each image."""
    asleep = SleepingBackend(for_row)
    run = lambda images: asleep.run(ALL, (images,), len(images))  # noqa: E731
    monkeypatch.setattr(measure_module, "run_as_trained", lambda network: run)


def measured(
    monkeypatch: pytest.MonkeyPatch, backend: SleepingBackend, size: int, policy: ExitPolicy = LEAVING
) -> SettingTimes:
    """Half of 32 images leave at the first exit, a quarter at each of the others; plain networks take 2 ms an image."""
    engine = sleeping_engine(monkeypatch, backend, policy)
    exits = np.array(EXITS_OF_IMAGES)
    task = Task(COUNTED, [policy], images_that_leave_at(exits), exits)
    with backend.awake():
        answers = answer_all(engine, task, Reference([exits], np.full(32, 2), NEVER))
    backend.ran.clear()

    def time_uncounted(*arguments: Any) -> Any:
        backend.counts = False
        try:
            return time_chains(*arguments)  # how often each stage runs depends on the clock
        finally:
            backend.counts = True

    monkeypatch.setattr(measure_module, "time_chains", time_uncounted)
    idle = SleepingBackend(0.002, exits=1)
    sleeping(monkeypatch, 0.002)
    return benchmark_setting(
        engine,
        Setting("torch", "float32", size),
        task,
        answers,
        {ALL_EXITS: idle, "a rival": idle},
        [Rival("a rival", all_exits(COUNTED), 0.5)],
        Amount(rounds=2, seconds=None),
    )


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("size", [1, 8])
def test_a_backend_without_overhead_comes_near_the_ideal(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = SleepingBackend(for_row=0.0005)
    result = measured(monkeypatch, backend, size)
    (policy,) = result.policies
    assert result.images == 32
    # Two rounds, and the batches of the warm-up; each image runs the stages that it reaches, each of them once.
    answered = 2 * EXITS_OF_IMAGES + EXITS_OF_IMAGES[: WARM_UP * size]
    for stage in range(EXITS):
        reached = sum(exit >= stage for exit in answered)
        assert backend.ran[FusedStage(stage, stage)] == reached * len(policy.measured)
    assert backend.ran[FusedStage(0, EXITS - 1)] == len(answered)
    assert len(backend.ran) == EXITS + 1
    np.testing.assert_array_equal(policy.exit_shares, [0.5, 0.25, 0.25])
    assert policy.answered.accuracy == policy.answered.agreement == 1.0
    assert set(policy.measured) == ({CALL} if size == 1 else {CALL, STREAM})
    # Each stage takes 0.5 ms an image, and 1, 1/2, 1/4 of the images reach it.
    assert policy.ideal == pytest.approx(0.875, rel=0.01)
    assert result.whole.ms == pytest.approx(1.5, rel=0.01)
    assert result.trained.ms == pytest.approx(2, rel=0.01)
    for way, pace in policy.measured.items():
        assert pace.ms == pytest.approx(0.875, rel=0.01)
        assert policy.of_ideal(way) == pytest.approx(pace.ms / policy.ideal)
    assert result.cuts == pytest.approx(0.75, rel=0.01), "three stages of 0.5 ms, and 2 ms for the other"
    assert [rival.name for rival in result.rivals] == ["a rival"]


@pytest.mark.usefixtures("clock")
def test_it_says_where_early_exit_does_not_pay_and_only_there(monkeypatch: pytest.MonkeyPatch) -> None:
    cheap = measured(monkeypatch, SleepingBackend(for_row=0.0005), 8)
    dear = measured(monkeypatch, SleepingBackend(for_row=0.0002, for_cut=0.01), 8)
    (good,) = [said for said in sentences(benchmark_of(cheap)) if "pay" in said]
    assert good == "Early exit pays in every setting: each policy takes less time than the whole network."
    (bad,) = [said for said in sentences(benchmark_of(dear)) if "pay" in said]
    assert bad.startswith("At batch 8 in torch float32 the policy 1 takes ")
    assert bad.endswith(" times as long as the whole network: early exit does not pay there.")
    assert dear.cuts > cheap.cuts


@pytest.mark.usefixtures("clock")
def test_exits_that_a_policy_does_not_use_are_no_stages_of_its_ideal(monkeypatch: pytest.MonkeyPatch) -> None:
    result = measured(monkeypatch, SleepingBackend(for_row=0.0005), 8, ExitPolicy((math.inf, 0.9)))
    (policy,) = result.policies
    np.testing.assert_array_equal(policy.exit_shares, [0, 0.75, 0.25])
    # All run the first two stages as one, a quarter the last one, too.
    assert policy.ideal == pytest.approx(1.125, rel=0.01)


@pytest.mark.usefixtures("clock")
def test_the_time_bounds_how_many_images_have_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = SleepingBackend(for_row=0.0005)
    engine = sleeping_engine(monkeypatch, backend)
    task = Task(COUNTED, [LEAVING], images_that_leave_at([2] * 400), None)
    with backend.awake():
        answers = answer_all(engine, task, Reference([np.zeros(400)], np.zeros(400), NEVER))
    sleeping(monkeypatch, 0)
    ticks: list[int] = []
    amount = Amount(2, seconds=0.4, tick=ticks.append)
    result = benchmark_setting(
        engine, Setting("torch", "float32", 4), task, answers, {ALL_EXITS: SleepingBackend(0, exits=1)}, [], amount
    )
    # Whole, by calls and by the stream a batch takes 18 ms; of a round's 200 ms the stages take 41.
    assert result.images == 8 * 4
    assert result.images % 4 == 0
    assert result.trained.steps == 2 * result.images // 4, "it takes no time, so it answers all of them"
    assert ticks == [12] * 12, "two rounds of whole, trained, all exits, calls, stream and stages"


@pytest.mark.usefixtures("clock")
def test_the_network_as_trained_has_a_share_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = SleepingBackend(for_row=0.0)
    engine = sleeping_engine(monkeypatch, backend)
    task = Task(COUNTED, [LEAVING], images_that_leave_at([2] * 400), None)
    answers = answer_all(engine, task, Reference([np.zeros(400)], np.zeros(400), NEVER))
    sleeping(monkeypatch, 0.01)
    quick = {ALL_EXITS: SleepingBackend(0, exits=1)}
    result = benchmark_setting(engine, Setting("torch", "float32", 1), task, answers, quick, [], Amount(2, 0.8))
    # 10 ms an image, of a quarter of 400 ms in each round.
    assert result.trained.steps <= 2 * TRAINED_SHARE * 40
    assert result.trained.ms == pytest.approx(10, rel=0.01)
    assert result.images > result.trained.steps


@pytest.mark.parametrize("name", ["msdnet_tiny", "isc_ranet_tiny"])
def test_all_exits_answer_as_one(name: str) -> None:
    network = make(name)
    images = np.random.default_rng(0).standard_normal((3, 3, 32, 32), dtype=np.float32)
    (found,) = all_logits(all_exits(network), images)
    np.testing.assert_array_equal(found, np.concatenate([*all_logits(network, images)], axis=1))


@pytest.mark.slow
def test_a_real_network_is_measured_and_its_answers_are_those_of_the_replay() -> None:
    torch.manual_seed(0)
    network = create_network("msdnet_tiny", blocks=3).eval()
    for head in network.heads:
        head.linear.weight.data *= 20
    images = np.random.default_rng(0).standard_normal((40, 3, 32, 32), dtype=np.float32)
    logits = all_logits(network, images)
    policy = ExitPolicy(between_scores("confidence", logits, [0.5, 0.5]))
    warm = ExitPolicy(policy.thresholds, temperatures=(2.0, 1.0, 0.5))
    labels = np.random.default_rng(1).integers(10, size=40)
    task = Task(network, [policy, warm], images, labels)
    reference = reference_answers(task, batch_size=16)
    for each, answered in zip(task.policies, reference.policies, strict=True):
        np.testing.assert_array_equal(answered, replayed(each, logits)[1])
    np.testing.assert_array_equal(reference.last, logits[-1].argmax(-1))
    np.testing.assert_allclose(
        reference.exit_accuracies, [(each.argmax(-1).numpy() == labels).mean() for each in logits]
    )

    costs = measure_costs(network)
    lazy = np.array(costs.lazy_macs_per_exit)
    assert costs.lazy_macs_per_exit != costs.macs_per_exit, "or the test would not tell them apart"
    every = [Setting("torch", precision, size) for precision in ("float32", "bfloat16") for size in (1, 8)]
    results = list(benchmark_settings(task, every, reference, amount=Amount(rounds=1, seconds=None)))
    assert [result.setting for result in results] == every
    for result in results:
        assert result.images == 40
        assert result.stages.shape == (3,)
        assert result.whole_macs == pytest.approx(costs.lazy_macs_per_exit_alone[-1] / lazy[-1])
        assert result.trained_macs == pytest.approx(costs.macs_per_exit_alone[-1] / lazy[-1])
        assert min(result.stages.min(), result.whole.ms, result.trained.ms, result.all_exits.ms) > 0
        for each, expected in zip(result.policies, task.policies, strict=True):
            exits, answered, _ = replayed(expected, logits)
            if result.setting.precision == "float32":
                assert each.macs == pytest.approx(lazy[exits].mean() / lazy[-1])
                np.testing.assert_allclose(each.exit_shares, np.bincount(exits, minlength=3) / 40)
                assert each.answered.agreement == 1.0
                assert each.answered.accuracy == pytest.approx((answered == labels).mean())
            else:
                assert each.answered.agreement > 0.7


@pytest.mark.parametrize(
    ("setting", "images", "message"),
    [
        (Setting("torch", "float32", 50), 40, "batch_sizes=50 is more than the 40 images"),
        (Setting("torch", "float64", 1), 40, "Unknown precision 'float64'"),
        (Setting("abacus", "float32", 1), 40, "Unknown backend 'abacus'"),
    ],
)
def test_what_cannot_be_measured_is_said_before_anything_is(setting: Setting, images: int, message: str) -> None:
    network = create_network("msdnet_tiny")
    task = Task(network, [ExitPolicy((0.5,) * 4)], np.zeros((images, 3, 32, 32), np.float32), None)
    good = Setting("torch", "float32", 1)
    with pytest.raises(UserError, match=message):
        next(benchmark_settings(task, [good, setting], Reference([], np.zeros(0), NEVER)))


def test_sentences_about_streams_rivals_and_precision() -> None:
    only_stream = found(calls=(0.5, 1.2), streams=(0.4, 0.9))
    rivals = [
        RivalTimes("quick", 0.65, (3, 32, 32), timing(0.1)),
        RivalTimes("unknown", math.nan, (3, 32, 32), timing(0.1)),
        RivalTimes("slow", 0.9, (3, 32, 32), timing(2)),
    ]
    with_rivals = found(Setting("torch", "bfloat16", 1), streams=None, rivals=rivals)
    assert sentences(benchmark_of(only_stream, with_rivals)) == [
        "Something was left out.",
        "At batch 8 in torch float32 the policy for 75 % takes 1.20 times as long as the whole network in calls, and "
        "0.90 times as a stream: only the stream pays there.",
        "At batch 1 in torch bfloat16 quick (65.00 %, 0.1 ms) is faster than, and at least as accurate as, the policy "
        "for 50 %: early exit does not pay there.",
        "In torch bfloat16 at least 98.00 % of a policy's answers are those of float32, which changes top-1 by -0.20 "
        "points; at the last exit 99.50 % (-0.20 points).",
    ]


def test_tables_files_and_figure(tmp_path: Path) -> None:
    rivals = [
        RivalTimes("quick", 0.65, (3, 32, 32), timing(0.1)),
        RivalTimes("other", math.nan, (3, 64, 64), timing(2)),
    ]
    results = [found(rivals=rivals), found(Setting("openvino", "float32", 1), streams=None, whole=0.5)]
    benchmark = benchmark_of(*results)
    files = write_benchmark(tmp_path, benchmark, "A network")
    assert sorted(path.name for path in files) == sorted(path.name for path in tmp_path.iterdir())
    assert sorted(path.name for path in files) == [
        "bench.csv",
        "bench.json",
        "bench.md",
        "bench.png",
        "bench_rivals.csv",
    ]

    with (tmp_path / "bench.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["backend"], row["batch_size"], row["policy"]) for row in rows] == [
        *(("torch", "8", "50 %"), ("torch", "8", "75 %"), ("openvino", "1", "50 %"), ("openvino", "1", "75 %"))
    ]
    exact = binomtest(70, benchmark.images).proportion_ci(method="exact")
    expected = {
        "calls_ms": 0.9,
        "calls_ms_low": 0.81,
        "calls_over_ideal": 1.1,
        "calls_over_whole": 0.9,
        "calls_p95_ms": 72.0,
        "stream_ms": 0.8,
        "stream_images_per_second": 1250.0,
        "stages_over_all_exits": 1.2,
        "as_trained_ms": 4.0,
        "calls_steps": 200,
        "whole_times_as_fast_as_trained": 4.0,
        "accuracy_percent": 70.0,
        "accuracy_percent_low": 100 * exact.low,
        "accuracy_percent_high": 100 * exact.high,
        "accuracy_change_points": -0.2,
        "answers_as_float32_percent": 98.0,
        "share_1_percent": 50.0,
    }
    assert {name: float(rows[1][name]) for name in expected} == pytest.approx(expected)
    assert rows[2]["stream_ms"] == "nan"

    with (tmp_path / "bench_rivals.csv").open(newline="") as file:
        quick, other = csv.DictReader(file)
    assert (quick["rival"], float(quick["over_whole"]), float(quick["accuracy_percent"])) == ("quick", 0.1, 65.0)
    assert (other["shape"], other["accuracy_percent"]) == ("3x64x64", "nan")

    content = json.loads((tmp_path / "bench.json").read_text())
    assert content["sentences"] == sentences(benchmark)
    assert content["conditions"] == {"hardware": "a machine"}
    first = content["settings"][0]
    assert first["policies"][1]["stream"]["over_whole"] == pytest.approx(0.8)
    assert first["policies"][0]["exit_shares"] == [0.5, 0.25, 0.25]
    assert first["stages_over_all_exits"] == pytest.approx(1.2)
    assert first["rivals"][1]["accuracy"] is None

    text = (tmp_path / "bench.md").read_text()
    assert "## Batch 8 in torch float32 (80 images, 5 rounds)" in text
    assert "| 75 %, stream | 48.0 | 0.800 | 0.80 | 0.98 | 1,250 | - | - | - | 70.00 |" in text
    assert "| hardware | a machine |" in text
    for result in results:
        assert len(setting_sheet(result, 5).rows) == 3 + sum(len(each.measured) for each in result.policies) + len(
            result.rivals
        )


def test_an_earlier_benchmark_leaves_nothing_in_the_folder(tmp_path: Path) -> None:
    rivals = [RivalTimes("quick", 0.65, (3, 32, 32), timing(0.1))]
    (tmp_path / "mine.txt").touch()
    assert len(write_benchmark(tmp_path, benchmark_of(found(rivals=rivals)), "With rivals and labels")) == 5
    plain = benchmark_of(found(accuracy=(math.nan, math.nan)), accuracies=[math.nan] * 3)
    write_benchmark(tmp_path, plain, "Without")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bench.csv", "bench.json", "bench.md", "mine.txt"]


def test_tails_of_few_calls_are_left_out_of_tables(tmp_path: Path) -> None:
    result = found(
        rivals=[RivalTimes("quick", 0.65, (3, 32, 32), Pace(1.0, 1.0, 1.0, np.array([8, math.nan, math.nan]), 99))]
    )
    write_benchmark(tmp_path, benchmark_of(result), "A network")
    with (tmp_path / "bench_rivals.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert [row[name] for name in ("p50_ms", "p95_ms", "p99_ms", "steps")] == ["8", "", "", "99"]
    assert "| quick | - | 1.00 | 1.00 | - | 1,000 | 8.00 | - | - | 65.00 |" in (tmp_path / "bench.md").read_text()
    (told,) = json.loads((tmp_path / "bench.json").read_text())["settings"][0]["rivals"]
    assert told["latency_ms"] == {"p50": 8, "p95": None, "p99": None}


def test_the_figure_has_a_panel_for_each_setting_and_all_series() -> None:
    rivals = [
        RivalTimes("quick", 0.65, (3, 32, 32), timing(0.1)),
        RivalTimes("other", math.nan, (3, 64, 64), timing(2)),
    ]
    places = [("torch", 8), ("torch", 1), ("openvino", 8)]
    results = [found(Setting(backend, "float32", size), rivals=rivals) for backend, size in places]
    figure = benchmark_figure(benchmark_of(*results), "A network")
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["Batch 8 in torch float32", "Batch 1 in torch float32", "Batch 8 in openvino float32", ""]
    series = {str(line.get_label()): line for line in figure.axes[0].get_lines()}
    assert series["early exit, calls"].get_xydata().tolist() == [[0.5, 60.0], [0.9, 70.0]]
    assert series["early exit, stream"].get_xydata().tolist() == [[0.4, 60.0], [0.8, 70.0]]
    assert series["whole network"].get_xydata().tolist() == [[1.0, 75.0]]
    assert series["as trained (PyTorch float32)"].get_xydata().tolist() == [[4.0, 75.0]]
    np.testing.assert_allclose(
        series["each exit alone (its stages)"].get_xydata(), [[0.5, 50.0], [0.75, 70.0], [1.5, 75.0]]
    )
    drawn = [line for line in figure.axes[0].get_lines() if line.get_label() == "rivals"]
    assert [line.get_xdata()[0] for line in drawn] == [0.1, 2]
    assert [text.get_text() for text in figure.axes[0].texts] == ["quick", "other"]
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert len(names) == len(set(names)) == 6
    figure.draw_without_rendering()
    assert figure.legends[0].get_window_extent().y0 >= 0


def test_without_labels_there_is_no_figure(tmp_path: Path) -> None:
    benchmark = benchmark_of(found(accuracy=(math.nan, math.nan)), accuracies=[math.nan] * 3)
    files = write_benchmark(tmp_path, benchmark, "A network")
    assert [path.name for path in files] == ["bench.csv", "bench.json", "bench.md"]
    assert len(policy_rows(benchmark)) == 2


@settings(max_examples=settings().max_examples // 3)
@given(st.lists(st.integers(0, EXITS - 1), min_size=1, max_size=40), st.integers(1, 9))
def test_all_images_are_answered_whatever_their_number(exits: list[int], seed: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        engine = sleeping_engine(patch, SleepingBackend(for_row=0.0))
        truth = np.random.default_rng(seed).integers(CLASSES, size=len(exits))
        task = Task(COUNTED, [LEAVING], images_that_leave_at(exits), truth)
        answers = answer_all(engine, task, Reference([truth], np.full(len(exits), 2), NEVER))
    assert answers[0].exits.tolist() == exits
    assert answers[0].worth.accuracy == pytest.approx(np.mean(np.array(exits) == truth))
    assert answers[0].worth.change == pytest.approx(answers[0].worth.accuracy - 1)
    assert answers[-1].worth.agreement == 1.0


def test_the_table_of_a_setting_is_read_on_a_narrow_terminal(require_readable: Callable[[Sheet], str]) -> None:
    text = require_readable(
        setting_sheet(found(rivals=[RivalTimes("mobilenet_v3_large", 0.7, (3, 32, 32), timing(1))]), 5)
    )
    assert all(f"{what}, {way}" in text for what in ("50 %", "75 %") for way in (CALL, STREAM))
    assert "mobilenet_v3_large" in text
