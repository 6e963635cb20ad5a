"""ranet cascade: from the classifiers that there are to the best cascade for a budget."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from omegaconf import DictConfig

from ranet.calibration.goals import BudgetAmount
from ranet.calibration.policies.exit_policy import ONE_POLICY
from ranet.calibration.solvers.budget import calibrate
from ranet.calibration.solvers.calibration import Calibration
from ranet.calibration.solvers.cascades import CascadeSearch, Members, cascade_costs, cascade_scores
from ranet.cli.inputs.candidates import Candidate, load_candidates, one_network, read_scores, reading_time
from ranet.cli.options.cascade import budget_of
from ranet.cli.options.shared import listed
from ranet.cli.outputs.run_folder import run_folder, write_record
from ranet.cost.units import CostScale
from ranet.errors import UserError
from ranet.evaluation.policies.cascades import CascadeReport, cascade_report
from ranet.evaluation.reports.cascade import cascade_document
from ranet.models.adapted.cascade import Cascade
from ranet.models.checkpoint_files import NETWORK
from ranet.models.fingerprint import network_fingerprint
from ranet.support.console import new_console
from ranet.support.progress import Bar
from ranet.training.checkpoints import save_network


class Chosen(NamedTuple):
    """The cascade for the budget; its network and recipe where the members are networks."""

    members: Members
    calibration: Calibration
    network: Cascade | None
    recipe: dict[str, Any]


def run(config: DictConfig) -> None:
    """Choose, as the configuration says."""
    folder, amount = run_folder(), budget_of(config)
    candidates = read_scores(config) if config.candidates is None else load_candidates(config)
    search = CascadeSearch(
        [one.scores for one in candidates],
        [one.costs for one in candidates],
        most_members=config.most_members,
        combines=listed(config.combine),
    )
    with Bar("Comparing cascades"):
        report = cascade_report(search, [one.name for one in candidates])
        chosen = None if amount is None else _chosen(search, candidates, amount)
    sentences = [] if chosen is None else [_said(chosen, report)]
    if chosen is not None and search.tables[0].unit == "ms":
        sentences += _reading([candidates[i] for i in chosen.members.which], config, chosen.calibration.predicted_cost)
    document = cascade_document(report, "Cascades", sentences)
    files = document.write(folder)
    written = []
    if chosen is not None:
        chosen.calibration.policy.save(folder / ONE_POLICY)
        written.append(f"Policy written to {folder / ONE_POLICY}")
        if chosen.network is not None:
            save_network(chosen.network, chosen.recipe, folder / NETWORK)
            written.append(f"Network written to {folder / NETWORK}: use it as checkpoint={folder}")
    write_record(folder, config)
    document.print(new_console(), *written, *(f"  figure: {file}" for file in files if file.suffix == ".png"))


def _chosen(search: CascadeSearch, candidates: Sequence[Candidate], amount: BudgetAmount) -> Chosen:
    """Return the best cascade within a budget, with the thresholds that spend it.

    Raises:
        UserError: if every candidate costs more, even at its first exit.
    """
    unit = search.tables[0].unit
    budget = amount.cost(np.sort([search.alone(i).cost for i in range(len(candidates))]))
    choice = search.within(budget)
    if choice is None:
        least = search.frontier[0].cost
        raise UserError(f"No candidate costs as little as {budget:,.4g} {unit}: the cheapest costs {least:,.4g}.")
    members = choice.members
    which = [candidates[i] for i in members.which]
    network, recipe = one_network(which, members.combine) if which[0].trained else (None, {})
    fingerprint = {"name": "cascade", "fingerprint": network_fingerprint(network)} if network else None
    metadata = {
        **({"network": fingerprint} if fingerprint else {}),
        "members": [one.name for one in which],
        "combine": members.combine,
    }
    calibration = calibrate(
        cascade_scores(search.candidates, members),
        cascade_costs(search.tables, members),
        budget,
        unit=unit,
        metadata=metadata,
    )
    return Chosen(members, calibration, network, recipe)


def _reading(members: Sequence[Candidate], config: DictConfig, answering: float) -> list[str]:
    """Return a sentence about the time that pictures take before they are answered, if they are in files."""
    reading = reading_time(members, config.split)
    if reading is None:
        return []
    share = reading / (reading + answering)
    return [
        f"Decoding and preparing a picture takes {reading:.2f} ms besides, on one core: {share:.0%} of both together."
    ]


def _said(chosen: Chosen, report: CascadeReport) -> str:
    promise = chosen.calibration.policy.promise
    scale = CostScale.of([promise.budget], report.unit)
    shares = ", ".join(f"{100 * share:.0f}" for share in promise.exit_shares)
    return (
        f"For a budget of {scale.text(promise.budget)} {scale.label}: {report.named(chosen.members)}, which answers "
        f"{100 * promise.accuracy:.2f} % of these images rightly at a cost of {scale.text(promise.cost)}; {shares} % "
        "of the images leave at its exits."
    )
