"""ranet calibrate: from a budget, a tolerated risk or a deadline to exit policies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from ranet.calibration.goals import Budget, Deadline, Goal, Risk
from ranet.calibration.guarantees.risk import observed_risk
from ranet.calibration.policies.intervals import few_images
from ranet.calibration.scores.checks import require_exits_first
from ranet.calibration.scores.exit_scores import ExitScores
from ranet.calibration.scores.temperature import fit_temperatures
from ranet.calibration.solve import check_goal, solve_goal
from ranet.calibration.solvers.calibration import Calibration
from ranet.cli.inputs.costs import ExitCosts, exit_costs
from ranet.cli.inputs.scoring import save_scores, score, score_cache
from ranet.cli.inputs.trained import load_network_and_data
from ranet.cli.options.calibrate import Asked, CostOptions, check_options
from ranet.cli.outputs.policies import earlier_results, forget, policy_paths, write_policies
from ranet.cli.outputs.run_folder import run_folder, write_record
from ranet.data.module import ImageData
from ranet.errors import UserError
from ranet.evaluation.policies.solved import StaticExits, calibration_report, used_exits_sentence
from ranet.evaluation.reports.calibration import calibration_document
from ranet.models.checkpoint_files import BEST
from ranet.models.fingerprint import network_fingerprint
from ranet.support.console import new_console
from ranet.support.progress import Bar
from ranet.training.checkpoints import TrainedNetwork


@dataclass(frozen=True, eq=False)
class Scored:
    """What policies are solved on."""

    name: str  # of the network, for titles
    validation: ExitScores  # scores that the policies are solved on
    test: ExitScores | None  # scores that they are tried on; None if they are not
    costs: ExitCosts  # what the exits cost
    metadata: dict[str, Any]  # what the policy files say of the network and the images
    chosen_by_validation: bool = False  # whether the validation images have chosen the checkpoint
    classes: list[str] | None = None  # their names; None where they are not known


def run(config: DictConfig) -> None:
    """Calibrate, as the configuration says."""
    folder, asked = run_folder(), check_options(config)
    if config.scores is not None:
        scored = _of_files(config.scores, config.test_scores, asked.costs)
    else:
        scored = _of_network(*load_network_and_data(config), asked, config.temperature_share, config.test)
    goal, costs, latency = asked.goal, scored.costs, scored.costs.latency
    validation, alone, metadata = scored.validation, costs.alone(scored.validation), scored.metadata
    if validation.has("correct"):
        metadata = {**metadata, "static_exits": StaticExits(alone, costs.unit, validation).metadata}
    with Bar("Solving policies"):
        solved = solve_goal(goal, validation, costs.of(validation), alone, costs.unit, metadata)
        report = calibration_report(solved, validation, scored.test, alone, costs.unit)
    paths = policy_paths(len(solved), config.output, folder)
    earlier = earlier_results(folder, (config.scores, config.test_scores, config.latency))
    write_policies([one.policy for one in solved], paths)
    write_record(folder, config)
    few = few_images(validation, "validation", scored.classes)
    sentences = [*costs.notices, *([few] if few else [])]
    sentences += [*dict.fromkeys(notice for one in solved for notice in one.notices), *report.sentences]
    sentences += _what_it_means(goal, solved, scored)
    title, draw = f"Exit policies of {scored.name}", not isinstance(goal, Deadline)  # then all images leave at one exit
    document = calibration_document(report, title, sentences, draw=draw)
    files = document.write(folder)
    written = [*paths, *files, folder / "scores_validation.npz"]
    inputs = [config.scores, config.test_scores]
    save_scores(validation, folder / "scores_validation.npz", inputs)
    if scored.test is not None:
        save_scores(scored.test, folder / "scores_test.npz", inputs)
        written.append(folder / "scores_test.npz")
    if latency is not None:
        latency.save(folder / "latency.json")
        written.append(folder / "latency.json")
    forget(earlier, written)
    where = f"Policy written to {paths[0]}" if len(paths) == 1 else f"Policies written to {paths[0].parent}"
    document.print(new_console(), where, *(f"  figure: {file}" for file in files if file.suffix == ".png"))


def _what_it_means(goal: Goal, solved: Sequence[Calibration], scored: Scored) -> list[str]:
    """What the table does not say, in a sentence each."""
    sentences = [_guarantee(solved[0], scored)] if isinstance(goal, Risk) else []
    if sentences and scored.chosen_by_validation:
        sentences.append(
            "These images have also chosen the epoch of the checkpoint, which a strict guarantee does not allow: use "
            "checkpoint=RUN/checkpoints/last.ckpt for one."
        )
    if isinstance(goal, Deadline):
        exit_index = solved[0].parameters["exit_index"]
        runs = " in 95 % of the runs" if scored.costs.latency else ""
        sentences.append(
            f"Deadline of {goal.milliseconds} ms: all images leave at exit {exit_index + 1}, which has answered after "
            f"{solved[0].cost_per_exit[exit_index]:.4g} ms{runs}."
        )
    if isinstance(goal, Budget) and goal.family == "optimal":
        rule = goal.score or "confidence"
        solvers = [one for one in solved if "accepted" in one.parameters]  # the others are exits alone
        departed = sum(bool(one.parameters["accepted"]) or one.policy.score != rule for one in solvers)
        sentences.append(
            f"optimal departs from the papers' rule at {departed} of {len(solved)} budgets, where free thresholds or "
            "another score won on images that they were not solved on."
        )
    sentences += [used_exits_sentence(solved)] if solved[0].used_exits else []
    if not scored.validation.has("correct"):
        sentences.append("There are no labels, so no accuracy is promised.")
    return sentences


def _guarantee(of: Calibration, scored: Scored) -> str:
    """What is guaranteed, and what was seen."""
    given = of.policy.promise.guarantee
    assert given is not None
    risk = given.risk
    about = "top-1 accuracy lost to leaving early" if risk == "accuracy" else "answers other than the last exit's"
    sure = "on average over" if given.delta is None else f"with a probability of {1 - given.delta:.4g} over"
    seen = f"{100 * of.risk:.2f} % on these"
    if scored.test is not None and scored.test.has("correct" if risk == "accuracy" else "prediction"):
        seen += f", {100 * observed_risk(of.policy, scored.test, risk):.2f} % on test"
    return f"Guaranteed: {about} at most {100 * given.eps:.4g} %, {sure} draws of the validation images ({seen})."


def _of_files(file: str, test_file: str | None, asked: CostOptions) -> Scored:
    validation = ExitScores.load(file)
    test = None if test_file is None else ExitScores.load(test_file)
    for scores in (validation, test):
        if scores is not None and asked.given is not None:
            require_exits_first(scores, len(asked.given), "cost= has")
    costs = exit_costs(asked, validation.num_exits)
    if test is not None and test.num_exits != validation.num_exits:
        raise UserError(
            f"The test scores have {test.num_exits} exits and the others {validation.num_exits}: both must come from "
            "the same network."
        )
    return Scored(Path(file).name, validation, test, costs, {"data": {"scores": str(Path(file).resolve())}})


def _of_network(trained: TrainedNetwork, data: ImageData, asked: Asked, temperature_share: float, test: bool) -> Scored:
    if not len(data.val_dataloader()):
        raise UserError(
            "There are no validation images to calibrate on: the network was trained with data.validation_size=0; "
            "train it again with a validation split."
        )
    costs = exit_costs(asked.costs, trained.network.num_exits, trained.network, data.image_size)
    cache = score_cache(asked.costs.cache)
    temperatures, part, first = None, None, None
    if temperature_share:
        first, part = data.validation_parts(temperature_share)
    if not costs.table.parts.any():  # else it depends on the images what exits cost
        check_goal(asked.goal, costs.alone(), costs.table.cumulative(), costs.unit, data.size("validation", part))
    if first is not None:
        fitted_on = score(trained, data, "validation", cache, part=first, keep_logits=True)
        temperatures = fit_temperatures(fitted_on.logits, fitted_on.labels).tolist()
    validation = score(trained, data, "validation", cache, part=part, temperatures=temperatures)
    tested = score(trained, data, "test", cache, temperatures=temperatures) if test else None
    metadata = {
        "network": {**trained.recipe["network"], "fingerprint": network_fingerprint(trained.network)},
        "checkpoint": str(trained.path.resolve() if trained.path.exists() else trained.path),
        "data": {
            "name": data.name,
            "split": "validation",
            "fingerprint": data.fingerprint("validation", part),
            "classes": data.class_names,
        },
        **costs.metadata,
    }
    name, chosen = str(trained.recipe["network"]["name"]), trained.path.name == BEST
    return Scored(name, validation, tested, costs, metadata, chosen, data.class_names)
