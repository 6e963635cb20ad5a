"""What can be asked of an engine at run time, what it refuses, and what a stream promises beside its answers."""

from collections.abc import Iterator
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ranet import EarlyExitEngine, ExitPolicy, UserError, create_network, measure_costs
from ranet.inference.engine import stream as stream_module
from ranet.inference.images.checked import checked_images
from ranet.inference.runtimes.stage_times import StageTimes
from ranet.inference.stages.fused_stages import FusedStage
from tests.inference.networks import FLOAT32, make
from tests.inference.replay import all_logits, between_scores, check_answers, replayed
from tests.inference.times import stage_times

IMAGES = np.random.default_rng(1).standard_normal((90, 3, 32, 32), dtype=np.float32)
NETWORK = make("msdnet_tiny", seed=1)
LOGITS = all_logits(NETWORK, IMAGES)
K = NETWORK.num_exits
HALVES = ExitPolicy(between_scores("confidence", LOGITS, [0.5] * (K - 1)))


@pytest.fixture(scope="module")
def engine() -> EarlyExitEngine:
    return EarlyExitEngine(NETWORK, HALVES, backend="torch")


def promised(cost: float) -> dict[str, Any]:
    return {"unit": "joules", "cost_per_exit": [1.0, 2.0, 3.0, 4.0, 5.0], "predicted": {"cost": cost}}


class TestBudgets:
    def test_costs_are_the_policys_and_else_macs(self, engine: EarlyExitEngine) -> None:
        answers = engine(IMAGES)
        assert answers.unit == engine.unit == "macs"  # as the engine computes an MSDNet
        macs = measure_costs(NETWORK).lazy_macs_per_exit
        assert answers.costs.tolist() == [macs[k] for k in answers.exits]
        priced = ExitPolicy(HALVES.thresholds, metadata=promised(3.0))
        answers = engine(IMAGES, policy=priced)
        assert answers.unit == "joules"
        assert answers.costs.tolist() == (answers.exits + 1).tolist()

    def test_a_network_that_cannot_be_lazy_costs_macs(self) -> None:
        network = make("ranet_tiny")
        engine = EarlyExitEngine(network, ExitPolicy((0.5,) * (network.num_exits - 1)), backend="torch")
        assert engine.unit == "macs"
        assert engine.plan().cost_per_exit.tolist() == measure_costs(network).macs_per_exit

    def test_policies_of_several_units_do_not_go_together(self) -> None:
        others = {**promised(3.0), "unit": "ms"}
        with pytest.raises(UserError, match="in one unit, and these are in joules and ms"):
            EarlyExitEngine(
                NETWORK, [ExitPolicy(HALVES.thresholds, metadata=each) for each in (promised(3.0), others)], "torch"
            )

    def test_a_budget_chooses_the_dearest_policy_within_it(self) -> None:
        policies = [
            ExitPolicy((-inf,) * 4, metadata=promised(1.0)),
            ExitPolicy((inf,) * 4, metadata=promised(5.0)),
            ExitPolicy((inf, inf, -inf, -inf), metadata=promised(3.0)),
        ]
        engine = EarlyExitEngine(NETWORK, policies, backend="torch")
        for budget, exit in ((1.0, 0), (2.9, 0), (3.0, 2), (99.0, 4)):
            assert set(engine(IMAGES[:5], budget=budget).exits) == {exit}
        with pytest.raises(UserError, match=r"No policy keeps within a budget of 0\.5 joules: the cheapest costs 1 on"):
            engine(IMAGES[:5], budget=0.5)
        with pytest.raises(UserError, match="not both"):
            engine(IMAGES[:5], budget=3.0, policy=policies[0])

    def test_no_image_goes_behind_the_cap(self, engine: EarlyExitEngine) -> None:
        ran: list[FusedStage] = []
        run = engine.backend.run
        engine.backend.run = lambda stage, state, rows: (ran.append(stage), run(stage, state, rows))[1]  # type: ignore[method-assign]
        never = ExitPolicy((inf,) * (K - 1))
        assert set(engine(IMAGES, policy=never, max_exit=2).exits) == {2}
        assert set(ran) == {FusedStage(0, 2)}
        for wrong in (K, -1, 1.5, True):
            with pytest.raises(UserError, match=f"max_exit={wrong} must be one of the exits 0 to 4"):
                engine(IMAGES, max_exit=wrong)  # type: ignore[arg-type]

    def test_exits_that_are_not_used_are_no_cuts_and_their_heads_do_not_run(self, engine: EarlyExitEngine) -> None:
        engine(IMAGES[:8])
        network = engine.backend._network  # type: ignore[attr-defined]
        asked: list[int] = []
        for k in range(K):
            network.heads[k].register_forward_hook(lambda *_, k=k: asked.append(k))
            network.readouts[k].register_forward_hook(lambda *_, k=k: asked.append(k))
        engine(IMAGES[:8], policy=ExitPolicy((inf, -1.0, inf, inf)))
        assert set(asked) == {1}
        engine(IMAGES[:8], policy=ExitPolicy((inf, 2.0, inf, inf)))
        assert set(asked) == {1, 4}


class TestDeadline:
    def test_enough_time_gives_the_policys_answers(self, engine: EarlyExitEngine) -> None:
        exits, labels, _ = replayed(HALVES, LOGITS)
        answers = engine(IMAGES, deadline=1e6)
        np.testing.assert_array_equal(answers.exits, exits)
        np.testing.assert_array_equal(answers.labels, labels)

    @pytest.mark.parametrize("score", ["confidence", "margin", "entropy", "patience"])
    def test_whatever_the_policy_compares(self, engine: EarlyExitEngine, score: str) -> None:
        temperatures = (1.5, 0.7, 1.0, 2.0, 1.3)
        thresholds = between_scores(score, LOGITS, [0.6] * (K - 1), temperatures)
        policy = ExitPolicy(thresholds, score=score, temperatures=temperatures)
        check_answers(engine(IMAGES, policy=policy, deadline=1e6), policy, LOGITS)

    def test_no_time_gives_the_first_exits(self, engine: EarlyExitEngine) -> None:
        answers = engine(IMAGES, deadline=1e-6)
        assert set(answers.exits) == {0}
        np.testing.assert_array_equal(answers.labels, LOGITS[0].argmax(dim=1).numpy())

    def test_it_stops_before_a_stage_that_is_expected_to_be_late(self, engine: EarlyExitEngine) -> None:
        never = ExitPolicy((0.9999999,) * (K - 1))
        times = engine.prepare()
        measured = engine._measured([engine.plan(never).stages])
        slow = {
            stage: curves._replace(slow=curves.slow + 1e7)
            for stage, curves in measured.curves.items()
            if stage.first == 2
        }
        engine._times = measured.including(StageTimes(times.sizes, slow))
        answers = engine(IMAGES[:10], policy=never, deadline=1e6)
        exits, _, _ = replayed(never, LOGITS[:, :10], max_exit=1)
        np.testing.assert_array_equal(answers.exits, exits)

    @pytest.mark.parametrize("deadline", [0, -1.0, inf, float("nan"), "5", True])
    def test_a_deadline_is_a_time(self, engine: EarlyExitEngine, deadline: Any) -> None:
        with pytest.raises(UserError, match="positive number of milliseconds"):
            engine(IMAGES, deadline=deadline)

    def test_every_image_is_answered_though_the_first_cut_is_not_looked_at(
        self, engine: EarlyExitEngine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As in an exported folder that has more stages than the policy looks at."""
        monkeypatch.setattr(engine, "_stages_for", lambda exits: [FusedStage(k, k) for k in range(exits[-1] + 1)])
        policy = ExitPolicy((inf, inf, 0.5, 0.5))
        answers = engine(IMAGES[:10], policy=policy, deadline=1e-6)
        assert set(answers.exits) == {2}
        np.testing.assert_array_equal(answers.labels, LOGITS[2, :10].argmax(dim=1).numpy())
        np.testing.assert_array_equal(engine(IMAGES[:10], policy=policy).exits, replayed(policy, LOGITS[:, :10])[0])


class TestCompaction:
    @pytest.mark.parametrize("pays", [True, False])
    @pytest.mark.parametrize("score", ["margin", "patience"])
    def test_the_decision_never_changes_an_answer(
        self, engine: EarlyExitEngine, monkeypatch: pytest.MonkeyPatch, pays: bool, score: str
    ) -> None:
        policy = ExitPolicy(between_scores(score, LOGITS, [0.6] * (K - 1)), score=score)
        sizes = []
        monkeypatch.setattr(engine, "_compaction_pays", lambda stage, before, after: pays)
        run = engine.backend.run
        monkeypatch.setattr(engine.backend, "run", lambda s, state, rows: (sizes.append(rows), run(s, state, rows))[1])
        answers = engine(IMAGES[:40], policy=policy)
        exits, labels, _ = replayed(policy, LOGITS[:, :40])
        np.testing.assert_array_equal(answers.exits, exits)
        np.testing.assert_array_equal(answers.labels, labels)
        assert (min(sizes) < 40) == pays

    def test_it_compacts_where_the_measured_times_say_so(self, engine: EarlyExitEngine) -> None:
        stage = FusedStage(1, 1)
        times = stage_times((1, 8, 64), {stage: [1.0, 1.0, 8.0]}, copy_of_row=0.5)
        assert times.compaction_pays(stage, 64, 8, engine.backend)  # 1 + 8 * 0.5 < 8
        assert not times.compaction_pays(stage, 8, 4, engine.backend)  # 1 + 4 * 0.5 > 1
        assert not times.compaction_pays(stage, 64, 60, engine.backend)

    def test_the_best_size_is_the_smallest_of_the_fastest(self) -> None:
        stage = FusedStage(0, 0)
        assert stage_times((1, 8, 16), {stage: [1.0, 4.2, 7.9]}).best_size([stage]) == 16  # 1, 0.525, 0.494 ms an image
        assert stage_times((1, 8, 16), {stage: [1.0, 3.95, 7.9]}).best_size([stage]) == 8


class TestStream:
    def test_a_batch_that_fails_spoils_no_other(self, engine: EarlyExitEngine) -> None:
        bad = IMAGES[20:30].copy()
        bad[3, 0, 5, 5] = np.nan
        batches = [IMAGES[:20], bad, np.zeros((4, 3, 31, 32), dtype=np.float32), "no images", IMAGES[30:60]]
        answered = list(engine.stream(batches, batch_size=16))
        assert [len(each) for each in answered] == [20, 0, 0, 0, 30]
        errors = [str(each.error) for each in answered if each.error is not None]
        assert len(errors) == 3
        assert "NaN" in errors[0]
        assert "(4, 3, 31, 32)" in errors[1]
        exits, _, _ = replayed(HALVES, LOGITS[:, [*range(20), *range(30, 60)]])
        np.testing.assert_array_equal(np.concatenate([each.exits for each in answered]), exits)

    def test_answers_come_while_batches_are_read(self, engine: EarlyExitEngine) -> None:
        read = 0

        def batches() -> Iterator[Any]:
            nonlocal read
            for _ in range(1000):
                read += 1
                yield IMAGES[:8]

        first = next(engine.stream(batches(), batch_size=8, policy=ExitPolicy((-1.0,) * (K - 1))))
        assert len(first) == 8
        assert read == 1

    def test_memory_is_bounded_though_an_image_waits(
        self, engine: EarlyExitEngine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An image that waits alone in a deep queue is answered once MOST_WAITING images have come behind it."""
        monkeypatch.setattr(stream_module, "MOST_WAITING", 50)
        scores = torch.softmax(LOGITS[0], dim=1).max(dim=1).values.numpy()
        unsure, sure = int(scores.argmin()), int(scores.argmax())
        policy = ExitPolicy(((scores[unsure] + scores[sure]) / 2, inf, inf, inf))
        read = 0

        def batches() -> Iterator[Any]:
            nonlocal read
            yield IMAGES[unsure : unsure + 1]
            for _ in range(200):
                read += 1
                yield IMAGES[sure : sure + 1]

        answered = engine.stream(batches(), batch_size=4, policy=policy)
        waited = next(answered)
        assert waited.exits.tolist() == [K - 1]
        np.testing.assert_allclose(waited.logits[0], LOGITS[-1, unsure], rtol=0, atol=FLOAT32 * abs(LOGITS).max())
        assert 40 < read < 60
        assert sum(1 for _ in answered) == 200

    @pytest.mark.parametrize("backend", ["torch", "onnxruntime", "openvino"])
    def test_calls_and_other_streams_may_come_between(self, backend: str) -> None:
        pytest.importorskip(backend)
        engine = EarlyExitEngine(NETWORK, HALVES, backend)
        exits, _, _ = replayed(HALVES, LOGITS, max_exit=1)
        read = {"one": 0, "two": 0}

        def batches(name: str, order: int) -> Iterator[Any]:
            for _ in range(6):
                for at in range(0, 90, 9)[::order]:
                    read[name] += 1
                    yield IMAGES[at : at + 9]

        one = engine.stream(batches("one", 1), batch_size=16, max_exit=1)
        two = engine.stream(batches("two", -1), batch_size=16, max_exit=1)
        found_one, found_two = [next(one).exits], [next(two).exits]
        assert max(read.values()) < 20  # images wait in both while the engine does other things
        for _ in range(59):
            found_one.append(next(one).exits)
            np.testing.assert_array_equal(engine(IMAGES[:16], max_exit=1).exits, exits[:16])
            found_two.append(next(two).exits)
        np.testing.assert_array_equal(np.concatenate(found_one), np.tile(exits, 6))
        expected = np.concatenate([exits[at : at + 9] for at in range(0, 90, 9)[::-1]])
        np.testing.assert_array_equal(np.concatenate(found_two), np.tile(expected, 6))

    def test_what_the_source_raises_comes_through(self, engine: EarlyExitEngine) -> None:
        def batches() -> Iterator[Any]:
            yield IMAGES[:4]
            raise OSError("the disk is gone")

        with pytest.raises(OSError, match="the disk is gone"):
            list(engine.stream(batches(), batch_size=4))

    @pytest.mark.parametrize("size", [0, -1, 2.5, "8", True])
    def test_a_batch_size_is_a_number_of_images(self, engine: EarlyExitEngine, size: Any) -> None:
        with pytest.raises(UserError, match="at least 1"):
            engine.stream([], batch_size=size)


class TestBadInput:
    @pytest.mark.parametrize(
        ("images", "sentence"),
        [
            (
                np.zeros((2, 3, 32, 31), dtype=np.float32),
                r"reads images \(N, 3, 32, 32\), and these are \(2, 3, 32, 31",
            ),
            (np.zeros((3, 32, 32), dtype=np.float32), r"these are \(3, 32, 32\)"),
            (np.zeros((2, 3, 32, 32), dtype=np.uint8), "must be floats, normalised .* and these are uint8"),
            (np.full((2, 3, 32, 32), np.nan, dtype=np.float32), "NaN or infinities"),
            (np.full((2, 3, 32, 32), -np.inf, dtype=np.float32), "NaN or infinities"),
            (torch.full((1, 3, 32, 32), float("nan")), "NaN or infinities"),
            (torch.zeros(1, 3, 32, 32, dtype=torch.int64), "must be floats"),
            ([[1.0, [2.0]]], "must be an array"),
            (None, "must be an array of floats .*, not NoneType"),
            ("images", "must be an array of floats .*, not str"),
        ],
    )
    def test_images(self, engine: EarlyExitEngine, images: Any, sentence: str) -> None:
        with pytest.raises(UserError, match=sentence):
            engine(images)

    def test_large_finite_images_are_images(self, engine: EarlyExitEngine) -> None:
        for count in (1, 2, 5):  # few are added up in another way
            assert len(engine(np.full((count, 3, 32, 32), 3e38, dtype=np.float32))) == count

    def test_tensors_and_other_floats_are_images(self, engine: EarlyExitEngine) -> None:
        expected = engine(IMAGES[:3]).logits
        backwards = np.ascontiguousarray(IMAGES[:3, :, :, ::-1])[:, :, :, ::-1]
        assert backwards.strides[3] < 0
        frozen = IMAGES[:3].copy()
        frozen.flags.writeable = False
        wide = torch.from_numpy(IMAGES[:3]).to(memory_format=torch.channels_last)
        for given in (torch.from_numpy(IMAGES[:3]), IMAGES[:3].astype(np.float64), backwards, frozen, wide):
            np.testing.assert_array_equal(engine(given).logits, expected)

    @pytest.mark.parametrize("budget", ["50%", -1.0, 0, float("nan"), True])
    def test_a_budget_is_a_number(self, engine: EarlyExitEngine, budget: Any) -> None:
        with pytest.raises(UserError, match="must be a positive number, the mean cost of an image"):
            engine(IMAGES[:2], budget=budget)

    def test_a_budget_of_numpy_is_a_number(self, engine: EarlyExitEngine) -> None:
        policies = [ExitPolicy(HALVES.thresholds, metadata=promised(3.0))]
        priced = EarlyExitEngine(NETWORK, policies, backend="torch")
        for number in (np.float32(4), np.int64(4)):
            assert len(priced(IMAGES[:2], budget=number)) == 2

    def test_a_policy_is_a_policy(self, engine: EarlyExitEngine) -> None:
        with pytest.raises(UserError, match=r"policy=0\.9 must be an ExitPolicy or the file of one"):
            engine(IMAGES[:2], policy=0.9)  # type: ignore[arg-type]

    def test_without_a_policy_nothing_is_opened(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("ranet.inference.engine.engine.open_network", None)
        with pytest.raises(UserError, match="An engine needs a policy"):
            EarlyExitEngine(NETWORK)

    def test_whole_numbers_on_a_gpu_are_no_images(self) -> None:
        """Such a tensor never comes to this machine's memory, so its type is looked at where it is."""
        pixels = torch.zeros(2, 3, 32, 32, dtype=torch.uint8, device="meta")
        with pytest.raises(UserError, match=r"must be floats, .* and these are torch\.uint8"):
            checked_images(pixels, (3, 32, 32), "cuda")

    def test_a_policy_of_another_network(self, engine: EarlyExitEngine) -> None:
        other = ExitPolicy(HALVES.thresholds, metadata={"network": {"fingerprint": "0123456789abcdef"}})
        for use in (lambda: engine(IMAGES, policy=other), lambda: EarlyExitEngine(NETWORK, other, backend="torch")):
            with pytest.raises(UserError, match="solved for another network"):
                use()
        with pytest.raises(UserError, match="for 4 exits"):
            engine(IMAGES, policy=ExitPolicy((0.5,) * 3))

    @pytest.mark.parametrize(
        ("arguments", "sentence"),
        [
            ({"backend": "openvin"}, "did you mean openvino"),
            ({"precision": "float16"}, "Unknown precision 'float16'"),
            ({"device": "cuda:97", "backend": "torch"}, "cannot be put on the device 'cuda:97'"),
            ({"threads": 0}, "threads=0 must be"),
            ({"threads": True}, "threads=True must be"),
            ({"batch_sizes": [8]}, "computes batches of any size"),
            ({"batch_sizes": 8, "backend": "openvino"}, "batch_sizes=8 must be a list"),
            ({"batch_sizes": [2.5], "backend": "openvino"}, "batch_sizes=2.5 must be an integer"),
            ({"network": None}, "runs a network or an exported folder, not NoneType"),
            ({"policy": []}, "needs a policy"),
            ({"policy": "missing.json"}, "does not exist"),
        ],
    )
    def test_what_an_engine_is_made_of(self, arguments: dict[str, Any], sentence: str) -> None:
        with pytest.raises(UserError, match=sentence):
            EarlyExitEngine(**{"network": NETWORK, "policy": HALVES, "backend": "torch", **arguments})

    @pytest.mark.parametrize(
        ("name", "package", "extra"), [("openvino", "openvino", "openvino"), ("onnxruntime", "onnxruntime", "onnx")]
    )
    def test_a_backend_that_is_not_installed(
        self, monkeypatch: pytest.MonkeyPatch, name: str, package: str, extra: str
    ) -> None:
        monkeypatch.setitem(__import__("sys").modules, package, None)
        with pytest.raises(UserError, match=rf'pip install "ranet\[{extra}\]"'):
            EarlyExitEngine(NETWORK, HALVES, backend=name)


def test_the_network_stays_as_it_is_and_may_change_afterwards(engine: EarlyExitEngine) -> None:
    expected = engine(IMAGES[:5]).logits
    network = make("msdnet_tiny", seed=1)
    mine = EarlyExitEngine(network, HALVES, backend="torch")
    before = mine(IMAGES[:5]).logits
    np.testing.assert_allclose(before, expected, rtol=1e-4)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    np.testing.assert_array_equal(mine(IMAGES[:5]).logits, before)
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_bfloat16_computes_in_bfloat16() -> None:
    engine = EarlyExitEngine(NETWORK, ExitPolicy((inf,) * (K - 1)), backend="torch", precision="bfloat16")
    difference = abs(engine(IMAGES).logits - LOGITS[-1].numpy()).max() / abs(LOGITS[-1].numpy()).max()
    assert 1e-4 < difference < 0.1


def test_images_of_other_sizes_than_cifars(tmp_path: Path) -> None:
    network = create_network("ranet_tiny", image_size=48, num_classes=3)
    engine = EarlyExitEngine(network, ExitPolicy((0.4,) * (network.num_exits - 1)), backend="torch")
    assert engine(np.zeros((2, 3, 48, 48), dtype=np.float32)).probabilities.shape == (2, 3)


@pytest.mark.parametrize("sizes", [[], [0], [2.5], [-1], "8", 4])
def test_what_is_prepared_are_batch_sizes(engine: EarlyExitEngine, sizes: Any) -> None:
    with pytest.raises(UserError, match="sizes"):
        engine.prepare(sizes)


def test_preparing_one_size_measures_what_lies_around_it(engine: EarlyExitEngine) -> None:
    assert engine.prepare([16, 4]).sizes == (1, 4, 16, 64)


def test_a_prepared_engine_measures_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = EarlyExitEngine(NETWORK, HALVES, backend="torch")
    assert engine.stream_size() == 32
    times = engine.prepare()
    assert engine.stream_size() == times.best_size(engine.plan().stages)
    monkeypatch.setattr("ranet.inference.engine.engine.measure_stages", None)
    engine.prepare()
    assert len(engine(IMAGES[:3], deadline=1e6)) == 3
