"""ranet calibrate: every kind of budget, policy, risk and currency, for a trained network."""

import json
import re
from collections.abc import Callable
from functools import partial
from math import inf
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from torch import Tensor

import ranet
from ranet.calibration import (
    POLICIES,
    ExitScores,
    calibrate_risk,
    evaluate_policy,
    fit_temperatures,
    load_policy,
)
from ranet.cli.inputs import costs as exit_costs
from ranet.data import ImageData
from ranet.inference import EarlyExitEngine, LatencyProfile, Timings
from ranet.models import network_fingerprint
from ranet.training import load_trained
from tests.end_to_end.calibration import calibrations
from tests.end_to_end.calibration.calibrations import EASY, RESULTS, check_promise, rows, train_network, uses_up
from tests.end_to_end.commands import content
from tests.end_to_end.commands import ranet as command


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a trained network in it (run)."""
    folder = tmp_path_factory.mktemp("calibrate")
    train_network(folder)
    return folder


@pytest.fixture(scope="module")
def macs(here: Path) -> npt.NDArray[np.float64]:
    """(3,) what the exits cost."""
    return np.array(ranet.measure_costs(load_trained(here / "run").network, 32).lazy_macs_per_exit, dtype=np.float64)


@pytest.fixture
def calibrate(here: Path, tmp_path: Path) -> Callable[..., str]:
    """Type ``ranet calibrate checkpoint=run OPTIONS run=FOLDER``; gives what it says."""

    def run(*options: str | Path, into: str = "out", of: str = "run") -> str:
        return calibrations.calibrate(f"checkpoint={of}", *options, f"run={tmp_path / into}", folder=here)

    return run


@pytest.mark.parametrize(
    ("options", "unit"),
    [
        (["budget=60%"], "macs"),
        pytest.param(["budget=0.6", "unit=fraction"], "macs", marks=pytest.mark.slow),
        pytest.param(["budget={macs}"], "macs", marks=pytest.mark.slow),
        (["budget=60%", "unit=paper_ops"], "paper_ops"),
    ],
)
def test_one_budget_in_every_form(
    options: list[str], unit: str, calibrate: Callable[..., str], here: Path, macs: np.ndarray, tmp_path: Path
) -> None:
    out = calibrate(*(option.format(macs=0.6 * macs[-1]) for option in options), "alternatives=false")
    assert set(content(tmp_path / "out")) == {*RESULTS, "policy.json", "scores_validation.npz"}
    policy = load_policy(tmp_path / "out" / "policy.json")
    network = load_trained(here / "run").network
    costs = ranet.measure_costs(network, 32).table(unit).cumulative()
    assert policy.metadata["unit"] == unit
    assert policy.metadata["cost_per_exit"] == list(costs)
    assert policy.metadata["budget"] == pytest.approx(0.6 * costs[-1])
    assert uses_up(policy, policy.metadata["budget"])
    check_promise(policy, ExitScores.load(tmp_path / "out" / "scores_validation.npz"))
    assert policy.metadata["network"]["fingerprint"] == network_fingerprint(network)
    data = ImageData("digits", train_copies=1, eval_copies=1, **EASY)
    assert policy.metadata["data"] == {
        "name": "digits",
        "split": "validation",
        "fingerprint": data.fingerprint("validation"),
        "classes": data.class_names,
    }
    assert f"Policy written to {tmp_path / 'out' / 'policy.json'}\n" in out
    assert np.asarray(Image.open(tmp_path / "out" / "calibration.png").convert("L")).std() > 10, "an empty picture"


def test_a_sweep_goes_over_the_whole_range(calibrate: Callable[..., str], macs: np.ndarray, tmp_path: Path) -> None:
    out = calibrate("budget=sweep", "alternatives=false")
    folder = tmp_path / "out" / "policies"
    assert f"Policies written to {folder}\n" in out
    names = sorted(content(folder))
    assert names == [f"policy_{number:02}.json" for number in range(1, 21)]
    policies = [load_policy(folder / name) for name in names]
    wanted = [policy.metadata["budget"] for policy in policies]
    assert wanted == pytest.approx([macs[0] + step / 19 * (macs[-1] - macs[0]) for step in range(20)])
    scores = ExitScores.load(tmp_path / "out" / "scores_validation.npz")
    for policy, budget, row in zip(policies, wanted, rows(tmp_path / "out"), strict=True):
        assert uses_up(policy, budget)
        check_promise(policy, scores)
        assert float(row["budget_macs"]) == pytest.approx(budget)


def test_a_list_is_tried_on_test_images(calibrate: Callable[..., str], macs: np.ndarray, tmp_path: Path) -> None:
    above = 2 * macs[-1]
    out = calibrate(f"budget=[90%,{above},{0.5 * macs[-1]}]", "test=true", f"output={tmp_path / 'elsewhere'}")
    assert set(content(tmp_path / "out")) == {*RESULTS, "scores_test.npz", "scores_validation.npz"}
    assert sorted(content(tmp_path / "elsewhere")) == [f"policy_{number}.json" for number in (1, 2, 3)]
    assert "exceeds the cost of the last exit" in out
    test = ExitScores.load(tmp_path / "out" / "scores_test.npz")
    lines = [line for line in out.split("Each exit alone")[0].splitlines() if re.match(r" +\d", line)]
    for number, (row, line) in enumerate(zip(rows(tmp_path / "out"), lines, strict=True), start=1):
        policy = load_policy(tmp_path / "elsewhere" / f"policy_{number}.json")
        budget = [0.5 * macs[-1], 0.9 * macs[-1], above][number - 1]
        seen = evaluate_policy(policy, test, macs)
        expected = {
            "budget_macs": budget,
            "test_cost_macs": seen.mean_cost,
            "test_cost_against_budget_percent": 100 * (seen.mean_cost / budget - 1),
            "test_accuracy_percent": 100 * seen.accuracy,
            **{f"test_share_{k}_percent": 100 * share for k, share in enumerate(seen.exit_shares, start=1)},
            **{f"threshold_{k}": value for k, value in enumerate(policy.thresholds, start=1)},
        }
        assert {name: float(row[name]) for name in expected} == pytest.approx(expected, rel=1e-8)
        cost, off, accuracy, _ = line.split()[-4:]
        assert float(cost) == pytest.approx(seen.mean_cost / 1e6, rel=1e-3)
        assert float(off) == pytest.approx(expected["test_cost_against_budget_percent"], abs=0.006)
        assert float(accuracy) == pytest.approx(100 * seen.accuracy, abs=0.006)


@pytest.mark.parametrize(
    ("policy", "score"),
    [*POLICIES.items(), ("geometric", "entropy"), ("one_threshold", "margin"), ("optimal", "entropy")],
)
def test_every_policy_meets_the_budget(
    policy: str, score: str, calibrate: Callable[..., str], macs: np.ndarray, tmp_path: Path
) -> None:
    chosen = () if POLICIES[policy] == score else (f"score={score}",)
    output = f"output={tmp_path / 'deep' / 'p.json'}"
    calibrate("budget=60%", f"policy={policy}", output, "alternatives=false", *chosen)
    solved = load_policy(tmp_path / "deep" / "p.json")
    assert solved.metadata["policy"] == policy
    if policy != "optimal" or chosen:  # which may find another score to be better
        assert solved.score == score
    assert uses_up(solved, 0.6 * macs[-1])
    check_promise(solved, ExitScores.load(tmp_path / "out" / "scores_validation.npz"))
    (row,) = rows(tmp_path / "out")
    assert (row["policy"], row["score"]) == (policy, solved.score)


def answers(run: Path, data: ImageData, split: str) -> tuple[Tensor, Tensor]:
    """Logits (K, N, C) and labels (N,), by a loop of our own."""
    network = load_trained(run).network.eval()
    loader = data.val_dataloader() if split == "validation" else data.test_dataloader()
    with torch.no_grad():
        batches = [(network(images), labels) for images, labels in loader]
    return torch.cat([logits for logits, _ in batches], 1), torch.cat([labels for _, labels in batches])


@pytest.mark.slow
def test_temperatures_are_fitted_on_images_that_the_thresholds_do_not_see(
    calibrate: Callable[..., str], here: Path, macs: np.ndarray, tmp_path: Path
) -> None:
    calibrate("budget=60%", "temperature_share=0.4", "test=true")
    policy = load_policy(tmp_path / "out" / "policy.json")
    data = ImageData("digits", train_copies=1, eval_copies=1, **EASY)
    first, rest = data.validation_parts(0.4)
    logits, labels = answers(here / "run", data, "validation")
    temperatures = fit_temperatures(logits[:, first], labels[first])
    assert policy.temperatures == pytest.approx(temperatures.tolist(), rel=1e-3)
    assert np.abs(temperatures - 1).max() > 0.02, "they would change nothing"
    assert policy.metadata["data"]["fingerprint"] == data.fingerprint("validation", rest)
    kept = ExitScores.load(tmp_path / "out" / "scores_validation.npz")
    confidence = (logits[:, rest] / torch.tensor(policy.temperatures)[:, None, None]).softmax(-1).amax(-1)
    np.testing.assert_allclose(kept.confidence, confidence, atol=1e-5)
    assert kept.labels.tolist() == labels[rest].tolist()
    check_promise(policy, kept)

    test = ExitScores.from_logits(*answers(here / "run", data, "test"), temperatures=policy.temperatures)
    seen = evaluate_policy(policy, test, macs)
    assert float(rows(tmp_path / "out")[0]["test_cost_macs"]) == pytest.approx(seen.mean_cost)
    outcome = command(
        *("evaluate", "checkpoint=run", f"policy={tmp_path / 'out' / 'policy.json'}", f"run={tmp_path / 'evaluation'}"),
        folder=here,
    )
    assert outcome.status == 0, outcome.err
    report = json.loads((tmp_path / "evaluation" / "policy_report.json").read_text())["seen"]
    assert (report["mean_cost"], report["accuracy"]) == pytest.approx((seen.mean_cost, seen.accuracy))


def test_milliseconds_are_measured_once(
    calibrate: Callable[..., str], here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As the command does it, but for hundredths of a second.
    monkeypatch.setattr(exit_costs, "measure_latency", partial(exit_costs.measure_latency, min_run_time=0.02))
    # A budget that can be met, whatever the machine does meanwhile.
    out = calibrate("budget=100%", "unit=ms", "batch_size=3", "backend=torch", "precision=bfloat16", into="measured")
    profile = LatencyProfile.load(tmp_path / "measured" / "latency.json")
    assert (profile.batch_size, profile.image_size, profile.num_exits) == (3, 32, 3)
    assert (profile.backend, profile.precision, profile.threads) == ("torch", "bfloat16", torch.get_num_threads())
    assert "those of the torch backend in bfloat16 for batches of 3 images with 1 thread on" in out
    policy = load_policy(tmp_path / "measured" / "policy.json")
    costs = profile.costs
    assert policy.metadata["unit"] == "ms"
    assert policy.metadata["latency"] == profile.to_dict()
    assert policy.metadata["budget"] == pytest.approx(costs.alone[-1])
    assert policy.metadata["predicted"]["cost"] <= policy.metadata["budget"]
    check_promise(policy, ExitScores.load(tmp_path / "measured" / "scores_validation.npz"))

    monkeypatch.setattr(exit_costs, "measure_latency", None)
    latency = f"latency={tmp_path / 'measured' / 'latency.json'}"
    calibrate("budget=100%", "unit=ms", latency, into="read")
    assert load_policy(tmp_path / "read" / "policy.json") == policy


#: Milliseconds for a batch of two: a cut behind the first exit is expensive, one behind the second is free.
TABLE = [[2.0, 2.8, 4.4], [6.0, 9.0], [1.6]]


@pytest.fixture
def dear_cut(here: Path, tmp_path: Path) -> Path:
    """The latency profile of `TABLE`."""
    network = load_trained(here / "run").network
    profile = LatencyProfile(
        network=network_fingerprint(network, weights=False),
        backend="openvino",
        runtime_version="1.0",
        precision="float32",
        batch_size=2,
        image_size=32,
        device="cpu",
        hardware="a machine",
        threads=None,
        platform="elsewhere",
        stages=tuple(tuple(Timings(ms, 0.0, 1.5 * ms, 100) for ms in row) for row in TABLE),
    )
    profile.save(tmp_path / "dear_cut.json")
    return tmp_path / "dear_cut.json"


def test_a_deadline_is_met_by_the_whole_batch(dear_cut: Path, calibrate: Callable[..., str], tmp_path: Path) -> None:
    """In all but a twentieth of the runs, which take 3, 4.2 and 6.6 ms to the three exits."""
    calibrate("deadline=5", f"latency={dear_cut}")
    policy = load_policy(tmp_path / "out" / "policy.json")
    assert policy.thresholds == (inf, -inf)
    assert policy.metadata["cost_per_exit"] == pytest.approx([3.0, 4.2, 6.6])
    assert (policy.metadata["policy"], policy.metadata["predicted"]["cost"]) == ("deadline", pytest.approx(4.2))
    scores = ExitScores.load(tmp_path / "out" / "scores_validation.npz")
    assert policy.metadata["predicted"]["accuracy"] == pytest.approx(scores.correct[1].mean())


def test_exits_are_chosen_by_what_cuts_cost(
    dear_cut: Path, calibrate: Callable[..., str], here: Path, tmp_path: Path
) -> None:
    out = calibrate("budget=80%", "unit=ms", f"latency={dear_cut}", "test=true")
    assert "The policy uses exits 2 and 3 alone, which by cross-fitting is worth" in out
    assert "The milliseconds are those of the openvino backend in float32 for batches of 2 images on a machine: " in out
    assert "were measured on a machine with openvino 1.0, neither of which need be what runs here" in out
    path = tmp_path / "out" / "policy.json"
    policy = load_policy(path)
    assert policy.thresholds[0] == inf
    assert policy.metadata["used_exits"] == [1, 2]
    # An image that leaves at the second exit pays for the first two stages in one, then for the last.
    assert policy.metadata["cost_per_exit"] == pytest.approx([1.0, 1.4, 2.2])
    assert policy.metadata["budget"] == pytest.approx(0.8 * 2.2)
    validation, test = (ExitScores.load(tmp_path / "out" / f"scores_{split}.npz") for split in ("validation", "test"))
    check_promise(policy, validation)
    assert uses_up(policy, 0.8 * 2.2)
    (row,) = rows(tmp_path / "out")
    seen = evaluate_policy(policy, test, [1.0, 1.4, 2.2])
    assert float(row["test_cost_ms"]) == pytest.approx(seen.mean_cost)
    outcome = command("evaluate", "checkpoint=run", f"policy={path}", f"run={tmp_path / 'evaluation'}", folder=here)
    assert outcome.status == 0, outcome.err
    report = json.loads((tmp_path / "evaluation" / "policy_report.json").read_text())
    assert report["cost_per_exit"] == pytest.approx([1.0, 1.4, 2.2])
    assert report["seen"]["mean_cost"] == pytest.approx(seen.mean_cost)
    # And the engine runs these two stages.
    engine = EarlyExitEngine(load_trained(here / "run").network, path, backend="torch")
    assert [(stage.first, stage.last) for stage in engine.plan().stages] == [(0, 1), (2, 2)]
    assert engine.unit == "ms"


def test_every_policy_of_a_sweep_has_costs_of_its_own(
    dear_cut: Path, calibrate: Callable[..., str], tmp_path: Path
) -> None:
    out = calibrate("budget=sweep", "unit=ms", f"latency={dear_cut}", "test=true")
    assert re.search(r"\d+ of 20 policies leave exits out .* by cross-fitting is worth [\d.]+ to [\d.]+ points", out)
    test = ExitScores.load(tmp_path / "out" / "scores_test.npz")
    policies = [load_policy(path) for path in sorted((tmp_path / "out" / "policies").iterdir())]
    wanted = [policy.metadata["budget"] for policy in policies]
    assert wanted == pytest.approx(np.linspace(1.0, 2.2, 20).tolist())
    assert len({tuple(policy.metadata["cost_per_exit"]) for policy in policies}) > 1
    for policy, row in zip(policies, rows(tmp_path / "out"), strict=True):
        seen = evaluate_policy(policy, test, policy.metadata["cost_per_exit"])
        assert float(row["test_cost_ms"]) == pytest.approx(seen.mean_cost)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [["budget=80%", "policy=patience"], ["risk.eps=0.3"], ["risk.eps=0.3", "risk.of=disagreement"]]
)
def test_patience_and_guarantees_use_all_exits(
    options: list[str], dear_cut: Path, calibrate: Callable[..., str], tmp_path: Path
) -> None:
    budget = ["budget=2.5", "alternatives=false"] if "policy=patience" in options else options[:1]
    out = calibrate(*budget, *options[1:], "unit=ms", f"latency={dear_cut}")
    policy = load_policy(tmp_path / "out" / "policy.json")
    # With noise taken out: two stages in one never cost more than with the cut between them.
    assert policy.metadata["cost_per_exit"] == pytest.approx([1.0, 4.0, 4.8])
    check_promise(policy, ExitScores.load(tmp_path / "out" / "scores_validation.npz"))
    assert ("The policy uses all exits, because patience counts exits." in out) == ("policy=patience" in options)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["risk.eps=0.05"], "top-1 accuracy lost to leaving early at most 5 %, with a probability of 0.9 over"),
        (["risk.eps=0.2", "risk.delta=0.3", "risk.bound=hoeffding_bentkus"], "at most 20 %, with a probability of 0.7"),
        (["risk.eps=0.05", "risk.delta=null"], "lost to leaving early at most 5 %, on average over draws"),
        (["risk.eps=0.3", "risk.of=disagreement", "score=margin"], "answers other than the last exit's at most 30 %"),
    ],
)
def test_a_risk_is_guaranteed(
    options: list[str], sentence: str, calibrate: Callable[..., str], macs: np.ndarray, tmp_path: Path
) -> None:
    out = calibrate(*options, "test=true")
    policy = load_policy(tmp_path / "out" / "policy.json")
    scores, test = (ExitScores.load(tmp_path / "out" / f"scores_{split}.npz") for split in ("validation", "test"))
    check_promise(policy, scores)
    said = dict(option.removeprefix("risk.").split("=") for option in options)
    of, score = said.get("of", "accuracy"), said.get("score", "confidence")
    exits, images = policy.exits(scores), np.arange(scores.num_images)
    last, early = scores.correct[-1].mean(), scores.correct[exits, images].mean()
    differs = (scores.prediction[exits, images] != scores.prediction[-1]).mean()
    risk = last - early if of == "accuracy" else differs
    guarantee = policy.metadata["guarantee"]
    assert (guarantee["risk"], guarantee["eps"]) == (of, float(said["eps"]))
    assert guarantee["empirical_risk"] == pytest.approx(risk)
    assert guarantee["delta"] == (None if said.get("delta") == "null" else float(said.get("delta", 0.1)))
    kind = {"risk": of, "bound": said.get("bound", "binomial"), "score": score}
    expected = calibrate_risk(scores, macs, guarantee["eps"], guarantee["delta"], **kind)
    assert policy.thresholds == expected.policy.thresholds
    assert 0 < policy.thresholds[0] < 1, "all images or none leave at the first exit"
    assert policy.score == score
    assert sentence in out
    assert f"({100 * risk:.2f} % on these" in out
    if of == "accuracy":
        lost = test.correct[-1].mean() - evaluate_policy(policy, test, macs).accuracy
        assert f"{100 * lost:.2f} % on test)." in out


@pytest.mark.slow
def test_nothing_is_scored_twice(
    calibrate: Callable[..., str], here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = f"cache={tmp_path / 'cache'}"
    calibrate("budget=60%", "test=true", cache, into="first")
    assert len(content(tmp_path / "cache")) == 2

    # The same network but for one weight, with a checkpoint of its own.
    checkpoint = torch.load(here / "run" / "checkpoints" / "best.ckpt", weights_only=True)
    name = next(name for name in checkpoint["state_dict"] if name.endswith("weight"))
    checkpoint["state_dict"][name].view(-1)[0] += 1
    torch.save(checkpoint, here / "changed.ckpt")

    def refuse(*_: object, **__: object) -> ExitScores:
        raise AssertionError("the network is run")

    with monkeypatch.context() as patch:
        patch.setattr(ExitScores, "collect", refuse)
        calibrate("budget=70%", "policy=patience", "test=true", cache, into="second")
        policy = f"policy={tmp_path / 'first' / 'policy.json'}"
        for options in ([policy], []):
            run = f"run={tmp_path / f'evaluation{len(options)}'}"
            outcome = command("evaluate", "checkpoint=run", cache, run, *options, folder=here)
            assert outcome.status == 0, outcome.err
        with pytest.raises(AssertionError, match="the network is run"):
            calibrate("budget=60%", cache, of="changed.ckpt", into="changed")
    first, second = (content(tmp_path / into) for into in ("first", "second"))
    for split in ("test", "validation"):
        assert first[f"scores_{split}.npz"] == second[f"scores_{split}.npz"]

    calibrate("budget=60%", cache, of="changed.ckpt", into="changed")
    scores = [ExitScores.load(tmp_path / into / "scores_validation.npz") for into in ("first", "changed")]
    assert not np.allclose(scores[0].confidence, scores[1].confidence)
    run = f"run={tmp_path / 'refused'}"
    outcome = command("evaluate", "checkpoint=changed.ckpt", policy, run, folder=here)
    assert outcome.status == 1
    assert re.fullmatch(r"ranet: The policy was solved for another network .*: calibrate .*\.\n", outcome.err)
    assert not content(tmp_path / "refused")


@pytest.mark.slow
def test_nothing_of_an_earlier_calibration_is_left(calibrate: Callable[..., str], tmp_path: Path) -> None:
    calibrate("budget=[50%,60%,70%]", "test=true", f"output={tmp_path / 'kept'}")
    assert len(list((tmp_path / "kept").iterdir())) == 3
    calibrate("budget=[50%,60%]", f"output={tmp_path / 'kept'}")
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["policy_1.json", "policy_2.json"]
    assert not (tmp_path / "out" / "scores_test.npz").exists()
    calibrate("budget=[50%,60%]")
    calibrate("budget=50%")
    assert not (tmp_path / "out" / "policies").exists()
    assert load_policy(tmp_path / "out" / "policy.json").metadata["budget"] > 0
