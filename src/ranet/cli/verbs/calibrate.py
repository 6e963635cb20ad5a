"""ranet calibrate: from a budget, a tolerated risk or a deadline to exit policies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from ranet.calibration.guarantees.risk import RiskCalibration, calibrate_risk, check_guarantee, observed_risk
from ranet.calibration.policies.intervals import few_images
from ranet.calibration.policies.promise import Calibration
from ranet.calibration.scores.checks import require_exits_first
from ranet.calibration.scores.exit_scores import ExitScores
from ranet.calibration.scores.temperature import fit_temperatures
from ranet.calibration.solvers.budget import calibrate_each, check_budgets
from ranet.calibration.solvers.deadline import exit_for_deadline
from ranet.calibration.solvers.exit_choice import ExitCalibration, calibrate_exits_each
from ranet.cli.inputs.budgets import budgets
from ranet.cli.inputs.currency import Currency, currency
from ranet.cli.inputs.scoring import save_scores, score, score_cache
from ranet.cli.inputs.trained import load_network_and_data
from ranet.cli.outputs.policies import earlier_results, forget, policy_paths, write_policies
from ranet.cli.outputs.run_folder import run_folder, write_record
from ranet.cli.outputs.used_exits import used_exits_sentence
from ranet.errors import UserError
from ranet.evaluation.curves.static_exits import StaticExits
from ranet.evaluation.policies.solved import calibration_report
from ranet.evaluation.reports.calibration import calibration_document
from ranet.models.fingerprint import network_fingerprint
from ranet.support.console import new_console
from ranet.support.progress import Bar
from ranet.training.run.saving import BEST


@dataclass(frozen=True, eq=False)
class Scored:
    """What policies are solved on.

    Attributes:
        name: of the network, for titles.
        validation: scores that the policies are solved on.
        test: scores that they are tried on; None if they are not.
        currency: what the exits cost.
        metadata: what the policy files say of the network and the images.
        chosen_by_validation: whether the validation images have chosen the checkpoint.
        classes: their names; None where they are not known.
    """

    name: str
    validation: ExitScores
    test: ExitScores | None
    currency: Currency
    metadata: dict[str, Any] = field(default_factory=dict)
    chosen_by_validation: bool = False
    classes: list[str] | None = None

    @property
    def notices(self) -> list[str]:
        """What the user should know of the costs and the images."""
        few = few_images(self.validation, "validation", self.classes)
        return [*self.currency.notices, *([few] if few else [])]


def run(config: DictConfig) -> None:
    """Calibrate, as the configuration says."""
    folder = run_folder()
    scored = _of_files(config) if config.scores is not None else _of_network(config)
    with Bar("Solving policies"):
        solved = _solve(config, scored)
        report = calibration_report(solved, scored.validation, scored.test, scored.currency.costs, scored.currency.unit)
    paths = policy_paths(len(solved), config.output, folder)
    earlier = earlier_results(folder, (config.scores, config.test_scores, config.latency))
    write_policies([one.policy for one in solved], paths)
    write_record(folder, config)
    sentences = [*scored.notices, *dict.fromkeys(notice for one in solved for notice in one.notices)]
    sentences += [*report.sentences, *_what_it_means(config, solved, scored)]
    title, draw = f"Exit policies of {scored.name}", config.deadline is None  # with a deadline all leave at one exit
    document = calibration_document(report, title, sentences, draw=draw)
    files = document.write(folder)
    written = [*paths, *files, folder / "scores_validation.npz"]
    inputs = [config.scores, config.test_scores]
    save_scores(scored.validation, folder / "scores_validation.npz", inputs)
    if scored.test is not None:
        save_scores(scored.test, folder / "scores_test.npz", inputs)
        written.append(folder / "scores_test.npz")
    if scored.currency.latency is not None:
        scored.currency.latency.save(folder / "latency.json")
        written.append(folder / "latency.json")
    forget(earlier, written)
    where = f"Policy written to {paths[0]}" if len(paths) == 1 else f"Policies written to {paths[0].parent}"
    document.print(new_console(), where, *(f"  figure: {file}" for file in files if file.suffix == ".png"))


def _what_it_means(config: DictConfig, solved: Sequence[Calibration], scored: Scored) -> list[str]:
    """What the table does not say, in a sentence each."""
    sentences = [_guarantee(one, scored) for one in solved if isinstance(one, RiskCalibration)]
    if sentences and scored.chosen_by_validation:
        sentences.append(
            "These images have also chosen the epoch of the checkpoint, which a strict guarantee does not allow: use "
            "checkpoint=RUN/checkpoints/last.ckpt for one."
        )
    if config.deadline is not None:
        exit_index = solved[0].parameters["exit_index"]
        runs = " in 95 % of the runs" if scored.currency.latency else ""
        sentences.append(
            f"Deadline of {config.deadline} ms: everybody leaves at exit {exit_index + 1}, which has answered after "
            f"{scored.currency.costs[exit_index]:.4g} ms{runs}."
        )
    if config.policy == "optimal":
        rule = config.score or "confidence"
        solvers = [one for one in solved if "accepted" in one.parameters]  # the others are exits alone
        departed = sum(bool(one.parameters["accepted"]) or one.policy.score != rule for one in solvers)
        sentences.append(
            f"optimal departs from the papers' rule at {departed} of {len(solved)} budgets, where free thresholds or "
            "another score won on images that they were not solved on."
        )
    choices = [one for one in solved if isinstance(one, ExitCalibration)]
    sentences += [used_exits_sentence(choices)] if choices else []
    if not scored.validation.has("correct"):
        sentences.append("There are no labels, so no accuracy is promised.")
    return sentences


def _guarantee(of: RiskCalibration, scored: Scored) -> str:
    """What is guaranteed, and what was seen."""
    risk = of.policy.metadata["guarantee"]["risk"]
    about = "top-1 accuracy lost to leaving early" if risk == "accuracy" else "answers other than the last exit's"
    sure = "on average over" if of.delta is None else f"with a probability of {1 - of.delta:.4g} over"
    seen = f"{100 * of.risk:.2f} % on these"
    if scored.test is not None and scored.test.has("correct" if risk == "accuracy" else "prediction"):
        seen += f", {100 * observed_risk(of.policy, scored.test, risk):.2f} % on test"
    return f"Guaranteed: {about} at most {100 * of.eps:.4g} %, {sure} draws of the validation images ({seen})."


def _of_files(config: DictConfig) -> Scored:
    validation = ExitScores.load(config.scores)
    test = None if config.test_scores is None else ExitScores.load(config.test_scores)
    for scores in (validation, test):
        if scores is not None:
            require_exits_first(scores, len(config.cost), "cost= has")
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
    cache = score_cache(config.cache)
    temperatures, part, first = None, None, None
    if config.temperature_share:
        first, part = data.validation_parts(config.temperature_share)
    _check_goal(config, of, data.size("validation", part))
    if first is not None:
        fitted_on = score(trained, data, "validation", cache, part=first, keep_logits=True)
        temperatures = fit_temperatures(fitted_on.logits, fitted_on.labels).tolist()
    validation = score(trained, data, "validation", cache, part=part, temperatures=temperatures)
    test = score(trained, data, "test", cache, temperatures=temperatures) if config.test else None
    metadata = {
        "network": {**trained.recipe["network"], "fingerprint": network_fingerprint(trained.network)},
        "checkpoint": str(trained.path.resolve()),
        "data": {
            "name": data.name,
            "split": "validation",
            "fingerprint": data.fingerprint("validation", part),
            "classes": data.class_names,
        },
        **of.metadata,
    }
    name, chosen = str(trained.recipe["network"]["name"]), trained.path.name == BEST
    return Scored(name, validation, test, of, metadata, chosen, data.class_names)


def _check_goal(config: DictConfig, of: Currency, images: int) -> None:
    """Refuse, before the images are scored, what cannot be whatever they show."""
    if config.budget is not None:
        # Patience counts exits, and so uses them all.
        check_budgets(budgets(config, of), of.of_all_exits if config.policy == "patience" else of.costs, of.unit)
    elif config.deadline is not None:
        exit_for_deadline(of.costs, config.deadline)
    else:
        check_guarantee(config.risk.eps, config.risk.delta, images, risk=config.risk.of, bound=config.risk.bound)


def _solve(config: DictConfig, scored: Scored) -> Sequence[Calibration]:
    of, scores = scored.currency, scored.validation
    if config.deadline is not None:
        return [_deadline(config, scored)]
    shared: dict[str, Any] = {"unit": of.unit, "metadata": _metadata(scored)}
    if config.risk.eps is None:
        asked: dict[str, Any] = {"policy": config.policy, "score": config.score, **shared}
        asked["alternatives"] = config.alternatives
        if of.stages is None:
            return calibrate_each(scores, of.costs, budgets(config, of), **asked)
        return calibrate_exits_each(scores, of.stages, budgets(config, of), **asked)
    options = {"risk": config.risk.of, "bound": config.risk.bound, "score": config.score or "confidence"}
    # Exits that were chosen by the same images would break the guarantee.
    return [calibrate_risk(scores, of.of_all_exits, config.risk.eps, config.risk.delta, **options, **shared)]


def _metadata(scored: Scored) -> dict[str, Any]:
    """What all policy files say."""
    of, scores = scored.currency, scored.validation
    static = {"static_exits": StaticExits.of(of.costs, of.unit, scores).metadata} if scores.has("correct") else {}
    return {**scored.metadata, **static}


def _deadline(config: DictConfig, scored: Scored) -> Calibration:
    choice = exit_for_deadline(scored.currency.costs, config.deadline, scored.validation, metadata=_metadata(scored))
    assert choice.calibration is not None, "there are scores"
    return choice.calibration
