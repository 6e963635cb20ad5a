"""ranet calibrate: from a budget, a tolerated risk or a deadline to exit policies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from ranet.calibration import (
    POLICIES,
    Calibration,
    ExitScores,
    RiskCalibration,
    calibrate_each,
    calibrate_risk,
    exit_for_deadline,
    fit_temperatures,
)
from ranet.calibration.risk import BOUNDS, RISKS
from ranet.calibration.scores import SCORES
from ranet.calibration.solve import check_budgets, score_of
from ranet.cli.currency import Currency, budgets, check_currency, currency, is_number
from ranet.cli.edge import command
from ranet.cli.run_folder import run_folder, write_record
from ranet.cli.scoring import score, score_cache
from ranet.cli.trained import load_network_and_data
from ranet.errors import UserError, unknown_name
from ranet.evaluation import CalibrationReport, calibration_report
from ranet.models import network_fingerprint


@dataclass(frozen=True, eq=False)
class Scored:
    """What policies are solved on.

    Attributes:
        name: of the network, for titles.
        validation: scores that the policies are solved on.
        test: scores that they are tried on; None if they are not.
        currency: what the exits cost.
        metadata: what the policy files say of the network and the images.
    """

    name: str
    validation: ExitScores
    test: ExitScores | None
    currency: Currency
    metadata: dict[str, Any] = field(default_factory=dict)


@command("calibrate")
def main(config: DictConfig) -> None:
    """Calibrate, as the configuration says."""
    _check(config)
    folder = run_folder()
    scored = _of_files(config) if config.scores is not None else _of_network(config)
    solved = _solve(config, scored)
    report = calibration_report(solved, scored.validation, scored.test, scored.currency.costs, scored.currency.unit)
    paths = _write_policies(config, solved, folder)
    write_record(folder, config)
    files = report.write(folder, title=f"Exit policies of {scored.name}")
    scored.validation.save(folder / "scores_validation.npz")
    if scored.test is not None:
        scored.test.save(folder / "scores_test.npz")
    if scored.currency.latency is not None:
        scored.currency.latency.save(folder / "latency.json")
    console = Console()
    console.print(report.table())
    sentences = [*scored.currency.notices, *dict.fromkeys(notice for one in solved for notice in one.notices)]
    sentences += [_guarantee(one, report) for one in solved if isinstance(one, RiskCalibration)]
    sentences.append(f"Policy written to {paths[0]}" if len(paths) == 1 else f"Policies written to {paths[0].parent}")
    sentences += [f"  figure: {file}" for file in files if file.suffix == ".png"]
    for sentence in sentences:
        console.print(sentence, soft_wrap=True, markup=False)


def _guarantee(of: RiskCalibration, report: CalibrationReport) -> str:
    """What is guaranteed, and what was seen."""
    accuracy = of.policy.metadata["guarantee"]["risk"] == "accuracy"
    about = "top-1 accuracy lost to leaving early" if accuracy else "answers other than the last exit's"
    sure = "on average over" if of.delta is None else f"with a probability of {1 - of.delta:.4g} over"
    on_these = f"{100 * of.risk:.2f} % on these"
    sentence = f"Guaranteed: {about} at most {100 * of.eps:.4g} %, {sure} draws of the validation images ({on_these}"
    seen = report.policies[0].seen
    if accuracy and seen is not None:
        sentence += f", {100 * (report.alone[-1] - seen.accuracy):.2f} % on test"
    return sentence + ")."


def _check(config: DictConfig) -> None:
    """Refuse what cannot be or has no effect, before anything is computed."""
    if (config.checkpoint is None) == (config.scores is None):
        raise UserError("Say what to calibrate: either checkpoint=RUN or scores=FILE.npz.")
    if not OmegaConf.is_dict(config.risk):
        raise UserError(f"risk={config.risk} has no effect; say the risk that is tolerated as risk.eps=, such as 0.01.")
    goals = [name for name in ("budget", "risk.eps", "deadline") if OmegaConf.select(config, name) is not None]
    if not goals:
        raise UserError("Say what the policy is for: one of budget=, risk.eps= and deadline= is needed.")
    if len(goals) > 1:
        raise UserError(f"Say only one of budget=, risk.eps= and deadline=, not {' and '.join(goals)}.")
    for name in ("risk.eps", "risk.delta", "deadline"):
        value = OmegaConf.select(config, name)
        if value is not None and not is_number(value):
            raise UserError(f"{name}={value} must be a number.")
    for name, choices in (("risk.of", RISKS), ("risk.bound", BOUNDS), ("policy", POLICIES)):
        chosen = str(OmegaConf.select(config, name))
        if chosen not in choices:
            raise unknown_name(name, chosen, choices)
    for override in HydraConfig.get().overrides.task:
        if override.startswith("risk.") and goals != ["risk.eps"]:
            raise UserError(f"{override} has no effect without risk.eps=; remove it.")
    if config.policy != "geometric" and goals != ["budget"]:
        raise UserError(f"policy={config.policy} goes with a budget; remove it.")
    if config.score is not None and config.score not in SCORES:
        raise unknown_name("score", config.score, SCORES)
    if goals == ["budget"]:
        score_of(config.policy, config.score)
    if config.score is not None and goals == ["deadline"]:
        raise UserError("A deadline sends everybody to one exit, whatever the score; remove score=.")
    check_currency(config)
    share = config.temperature_share
    if not is_number(share) or not 0 <= share < 1:
        raise UserError(f"temperature_share={share} must be at least 0 and below 1.")
    if config.scores is None and config.test_scores is not None:
        raise UserError("test_scores= goes with scores=; with a checkpoint, say test=true.")
    if config.scores is not None:
        _check_scores_alone(config)


def _check_scores_alone(config: DictConfig) -> None:
    """Refuse what needs a network."""
    if config.test:
        raise UserError("test=true needs a checkpoint; give scores of the test images as test_scores=FILE.npz.")
    given = {
        "temperature_share": config.temperature_share,
        "model": config.model.name,
        "data": "_target_" in config.data,
        "cache": config.cache,
    }
    for name, value in given.items():
        if value:
            raise UserError(f"{name}= goes with checkpoint= and has no effect on scores=; remove it.")


def _of_files(config: DictConfig) -> Scored:
    validation = ExitScores.load(config.scores)
    test = None if config.test_scores is None else ExitScores.load(config.test_scores)
    of = currency(config, validation.num_exits)
    if test is not None and test.num_exits != validation.num_exits:
        raise UserError(
            f"The test scores have {test.num_exits} exits and the others {validation.num_exits}: both must come from "
            "the same network."
        )
    metadata = {"data": {"scores": str(Path(config.scores).resolve())}}
    return Scored(Path(config.scores).name, validation, test, of, metadata)


def _of_network(config: DictConfig) -> Scored:
    trained, data = load_network_and_data(config)
    if not len(data.val_dataloader()):
        raise UserError(
            "There are no validation images to calibrate on: the network was trained with data.validation_size=0; "
            "train it again with a validation split."
        )
    of = currency(config, trained.network.num_exits, trained.network, data.image_size)
    if config.budget is not None:
        # What is wrong is said before the images are scored.
        check_budgets(budgets(config, of), of.costs, of.unit)
    cache = score_cache(config.cache)
    temperatures, part = None, None
    if config.temperature_share:
        first, part = data.validation_parts(config.temperature_share)
        fitted_on = score(trained, data, "validation", cache, part=first, keep_logits=True)
        temperatures = fit_temperatures(fitted_on.logits, fitted_on.labels).tolist()
    validation = score(trained, data, "validation", cache, part=part, temperatures=temperatures)
    test = score(trained, data, "test", cache, temperatures=temperatures) if config.test else None
    metadata = {
        "network": {**trained.recipe["network"], "fingerprint": network_fingerprint(trained.network)},
        "checkpoint": str(trained.path.resolve()),
        "data": {"name": data.name, "split": "validation", "fingerprint": data.fingerprint("validation", part)},
        **of.metadata,
    }
    return Scored(str(trained.recipe["network"]["name"]), validation, test, of, metadata)


def _solve(config: DictConfig, scored: Scored) -> Sequence[Calibration]:
    of, scores = scored.currency, scored.validation
    if config.deadline is not None:
        return [_deadline(config, scored)]
    shared: dict[str, Any] = {"unit": of.unit, "metadata": scored.metadata}
    if config.risk.eps is None:
        wanted = budgets(config, of)
        return calibrate_each(scores, of.costs, wanted, policy=config.policy, score=config.score, **shared)
    options = {"risk": config.risk.of, "bound": config.risk.bound, "score": config.score or "confidence"}
    return [calibrate_risk(scores, of.costs, config.risk.eps, config.risk.delta, **options, **shared)]


def _deadline(config: DictConfig, scored: Scored) -> Calibration:
    choice = exit_for_deadline(scored.currency.costs, config.deadline, scored.validation, metadata=scored.metadata)
    assert choice.calibration is not None, "there are scores"
    return choice.calibration


def _write_policies(config: DictConfig, solved: Sequence[Calibration], folder: Path) -> list[Path]:
    """One file, or a folder of numbered ones, cheapest first."""
    if len(solved) == 1:
        path = Path(config.output) if config.output else folder / "policy.json"
        if path.is_dir():
            raise UserError(f"output={path} is a folder; name the file in it, such as {path / 'policy.json'}.")
        solved[0].policy.save(path)
        return [path]
    into = Path(config.output) if config.output else folder / "policies"
    if into.exists() and not into.is_dir():
        raise UserError(f"output={into} is a file; {len(solved)} policies need a folder.")
    width = len(str(len(solved)))
    ordered = sorted(solved, key=lambda one: one.predicted_cost)
    paths = [into / f"policy_{number:0{width}}.json" for number in range(1, len(solved) + 1)]
    for path, one in zip(paths, ordered, strict=True):
        one.policy.save(path)
    return paths
