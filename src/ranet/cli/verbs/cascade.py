"""ranet cascade: from the classifiers that there are to the best cascade for a budget."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from omegaconf import DictConfig

from ranet.calibration.goals import BudgetAmount
from ranet.calibration.policies.exit_policy import ONE_POLICY
from ranet.calibration.solvers.budget import calibrate
from ranet.calibration.solvers.calibration import Calibration
from ranet.calibration.solvers.cascades import CascadeSearch, Members, cascade_costs, cascade_scores
from ranet.cli.inputs.candidates import Candidates, load_candidates, read_scores
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
    """The cascade for the budget: its members, its policy, and the network where its members are here."""

    members: Members
    calibration: Calibration
    network: Cascade | None


def run(config: DictConfig) -> None:
    """Choose, as the configuration says."""
    folder, amount = run_folder(), budget_of(config)
    candidates = read_scores(config) if config.candidates is None else load_candidates(config)
    search = CascadeSearch(
        [one.scores for one in candidates.each],
        [one.costs for one in candidates.each],
        most_members=config.most_members,
        combines=listed(config.combine),
    )
    with Bar("Comparing cascades"):
        report = cascade_report(search, [one.name for one in candidates.each])
        chosen = None if amount is None else _chosen(search, candidates, amount)
    sentences = [] if chosen is None else [_said(chosen, report)]
    document = cascade_document(report, "Cascades", sentences)
    files = document.write(folder)
    written = []
    if chosen is not None:
        chosen.calibration.policy.save(folder / ONE_POLICY)
        written.append(f"Policy written to {folder / ONE_POLICY}")
        if chosen.network is not None:
            save_network(chosen.network, _recipe(chosen, candidates), folder / NETWORK)
            written.append(f"Network written to {folder / NETWORK}: use it as checkpoint={folder}")
    write_record(folder, config)
    document.print(new_console(), *written, *(f"  figure: {file}" for file in files if file.suffix == ".png"))


def _chosen(search: CascadeSearch, candidates: Candidates, amount: BudgetAmount) -> Chosen:
    """Return the best cascade within a budget, with the thresholds that spend it.

    Raises:
        UserError: if every candidate costs more, even at its first exit.
    """
    unit = search.tables[0].unit
    budget = amount.cost(np.sort([search.alone(i).cost for i in range(len(candidates.each))]))
    choice = search.within(budget)
    if choice is None:
        least = search.frontier[0].cost
        raise UserError(f"No candidate costs as little as {budget:,.4g} {unit}: the cheapest costs {least:,.4g}.")
    members = choice.members
    networks = [one.trained.network for one in (candidates.each[i] for i in members.which) if one.trained is not None]
    network = Cascade([each.cpu() for each in networks], members.combine).eval() if networks else None
    fingerprint = (
        {} if network is None else {"network": {"name": "cascade", "fingerprint": network_fingerprint(network)}}
    )
    metadata = {**fingerprint, "members": [candidates.each[i].name for i in members.which], "combine": members.combine}
    calibration = calibrate(
        cascade_scores(search.candidates, members),
        cascade_costs(search.tables, members),
        budget,
        unit=unit,
        metadata=metadata,
    )
    return Chosen(members, calibration, network)


def _recipe(chosen: Chosen, candidates: Candidates) -> dict[str, Any]:
    """Return what `ranet.load_trained` builds the cascade of, with the data of the first candidate."""
    recipes = [one.trained.recipe for one in candidates.each if one.trained is not None]
    members = [recipes[i]["network"] for i in chosen.members.which]
    network = {"name": "cascade", "members": members, "options": {"combine": chosen.members.combine}}
    return {**recipes[0], "network": network}


def _said(chosen: Chosen, report: CascadeReport) -> str:
    promise = chosen.calibration.policy.promise
    scale = CostScale.of([promise.budget], report.unit)
    shares = ", ".join(f"{100 * share:.0f}" for share in promise.exit_shares)
    return (
        f"For a budget of {scale.text(promise.budget)} {scale.label}: {report.named(chosen.members)}, which answers "
        f"{100 * promise.accuracy:.2f} % of these images rightly at a cost of {scale.text(promise.cost)}; {shares} % "
        "of the images leave at its exits."
    )
