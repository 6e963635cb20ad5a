"""The classifiers that ranet cascade chooses from: networks with their data, scores and costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from ranet.calibration.scores.exit_scores import ExitScores
from ranet.cli.inputs.build import build_data, plain
from ranet.cli.inputs.scoring import score, score_cache
from ranet.cli.inputs.trained import build_data_of, evaluation_device, require_channels
from ranet.cli.options.cascade import parts_of
from ranet.cli.options.shared import listed
from ranet.cost.profile import measure_costs
from ranet.cost.table import CostTable
from ranet.data.module import ImageData
from ranet.errors import UserError
from ranet.inference.choosing.latency import measure_latency
from ranet.models.adapted.named import named_classifier
from ranet.models.registry import create_network, list_networks
from ranet.models.staged import StagedNetwork
from ranet.models.weights import load_weights
from ranet.support.progress import Bar
from ranet.support.shapes import image_shape
from ranet.training.checkpoints import TrainedNetwork, load_trained


@dataclass(frozen=True, eq=False)
class Candidate:
    """A classifier to choose.

    Attributes:
        name: as it stands in tables.
        scores: of the images that cascades are chosen on.
        costs: of its exits.
        trained: the network and its recipe; None of scores from elsewhere.
    """

    name: str
    scores: ExitScores
    costs: CostTable
    trained: TrainedNetwork | None = None


@dataclass(frozen=True, eq=False)
class Candidates:
    """All candidates.

    Attributes:
        each: the candidates.
        data: the data of the first; None of scores from elsewhere.
    """

    each: Sequence[Candidate]
    data: ImageData | None = None


def read_scores(config: DictConfig) -> Candidates:
    """Return the candidates of score files, with the costs that the user gives."""
    unit = "" if config.unit is None else str(config.unit)
    found = []
    for file, cost in zip(config.scores, config.cost, strict=True):
        scores = ExitScores.load(file, keep_logits="mean" in listed(config.combine))
        if scores.num_exits != 1:
            raise UserError(
                f"{file} has {scores.num_exits} exits and cost= one number for it: give scores of one exit."
            )
        found.append(Candidate(Path(str(file)).stem, scores, CostTable.of_exits([cost], unit)))
    return Candidates(found)


def load_candidates(config: DictConfig) -> Candidates:
    """Load networks, score the images of the split with each, and count or measure what each costs."""
    names = [str(name) for name in listed(config.candidates)]
    opened = [_open(name, config) for name in names]
    first = opened[0][1]
    for name, (_, data) in zip(names, opened, strict=True):
        if data.class_names != first.class_names:
            raise UserError(f"{name} was trained on other classes, or on these in another order, than {names[0]}.")
        if not data.size(config.split):
            raise UserError(f"There are no {config.split} images to choose on; use split=test.")
    found = []
    for name, (trained, data) in zip(_short(names), opened, strict=True):
        costs = _costs(config, name, trained.network, data)
        trained.network.to(evaluation_device())
        scores = score(
            trained, data, config.split, score_cache(config.cache), keep_logits="mean" in listed(config.combine)
        )
        found.append(Candidate(name, scores, costs, trained))
    return Candidates(found, first)


def _open(candidate: str, config: DictConfig) -> tuple[TrainedNetwork, ImageData]:
    name, source = parts_of(candidate)
    if name is None:
        trained = load_trained(source)
        return trained, build_data_of(trained, config.data)
    data = build_data(config.data)
    options: dict[str, Any] = {"num_classes": data.num_classes, "image_size": data.image_size}
    options["in_channels"] = data.facts.channels
    recipe: dict[str, Any] = {"name": name, "options": options}
    network: StagedNetwork
    if name in list_networks():
        network = create_network(name, **options)
    else:
        network, recipe = named_classifier(name, **options), {**recipe, "classifier": True}
    load_weights(network, source)
    require_channels(network, data.facts, data.name)
    recipes = {"network": recipe, "data": plain(config.data), "record": data.record().to_dict()}
    return TrainedNetwork(network.eval(), recipes, Path(source), epoch=0), data


def _costs(config: DictConfig, name: str, network: StagedNetwork, data: ImageData) -> CostTable:
    if config.unit != "ms":
        return measure_costs(network, data.image_size).table("macs")
    shape = image_shape(data.image_size, data.facts.channels)
    if shape != network.image_shape:
        raise UserError(f"{name} was built for images of shape {network.image_shape}, and the data have {shape}.")
    options = {option: config[option] for option in ("backend", "precision") if config[option] is not None}
    with Bar(f"Measuring {name}") as shown:
        return measure_latency(
            network, config.batch_size or 1, threads=config.threads, cache=config.cache, progress=shown, **options
        ).costs


def _short(names: Sequence[str]) -> list[str]:
    """Return names for tables: of NAME:WEIGHTS the name, of a path its last part; whole where two would be the same."""
    short = [name if name is not None else Path(source).name for name, source in map(parts_of, names)]
    return [own if short.count(own) == 1 else whole for own, whole in zip(short, names, strict=True)]
