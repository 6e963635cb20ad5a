"""The classifiers that ranet cascade chooses from: networks with their data, scores and costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from ranet.calibration.scores.exit_scores import ExitScores
from ranet.cli.inputs.build import build, build_data, plain
from ranet.cli.inputs.scoring import score, score_cache
from ranet.cli.inputs.trained import build_data_of, evaluation_device, require_channels
from ranet.cli.options.cascade import CandidateName, candidates_of
from ranet.cli.options.shared import listed
from ranet.cost.profile import measure_costs
from ranet.cost.table import CostTable
from ranet.data.module import ImageData
from ranet.errors import UserError
from ranet.images.canvas import Canvas, on_one_canvas
from ranet.images.preprocessing import Preprocessing
from ranet.inference.choosing.latency import measure_latency
from ranet.models.adapted.cascade import Cascade, Combine
from ranet.models.adapted.named import create_classifier, named_classifier
from ranet.models.published_weights import published_preprocessing
from ranet.models.registry import create_network, list_networks
from ranet.models.staged import StagedNetwork
from ranet.models.weights import load_weights
from ranet.support.progress import Bar
from ranet.support.shapes import checked_image_size, image_shape, sides
from ranet.training.checkpoints import TrainedNetwork, load_trained


@dataclass(frozen=True, eq=False)
class Candidate:
    """A classifier to choose.

    Attributes:
        name: as it stands in tables.
        scores: of the images that cascades are chosen on.
        costs: of its exits.
        trained: the network and its recipe; None of scores from elsewhere.
        data: its images as it reads them; None of scores from elsewhere.
    """

    name: str
    scores: ExitScores
    costs: CostTable
    trained: TrainedNetwork | None = None
    data: ImageData | None = None


def read_scores(config: DictConfig) -> list[Candidate]:
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
    return found


def load_candidates(config: DictConfig) -> list[Candidate]:
    """Load networks, score the images of the split with each, and count or measure what each costs."""
    names = candidates_of(config)
    opened = [_open(name, config) for name in names]
    first = opened[0][1]
    for named, (_, data) in zip(names, opened, strict=True):
        if data.class_names != first.class_names:
            raise UserError(f"{named} was trained on other classes, or on these in another order, than {names[0]}.")
        if not data.size(config.split):
            raise UserError(f"There are no {config.split} images to choose on; use split=test.")
    found = []
    for name, (trained, data) in zip(_short(names), opened, strict=True):
        costs = _costs(config, name, trained.network, data)
        trained.network.to(evaluation_device())
        scores = score(
            trained, data, config.split, score_cache(config.cache), keep_logits="mean" in listed(config.combine)
        )
        found.append(Candidate(name, scores, costs, trained, data))
    return found


def one_network(members: Sequence[Candidate], combine: Combine) -> tuple[Cascade, dict[str, Any]]:
    """Return the cascade of candidates that are networks, and the recipe of which `ranet.load_trained` builds it.

    Where the members read other inputs, its images are the canvas of all of them.
    """
    networks, recipes, inputs = [], [], []
    for member in members:
        assert member.trained is not None, "scores alone make no network"
        assert member.data is not None, "a network has been scored on data"
        networks.append(member.trained.network.cpu())
        recipes.append(member.trained.recipe)
        inputs.append(member.data.facts.preprocessing)
    prepares, rows = on_one_canvas(inputs)
    options = {"combine": combine, "rows": list(rows)}
    recipe = {"name": "cascade", "members": [each["network"] for each in recipes], "options": options}
    data = dict(recipes[0]["data"])
    if isinstance(prepares, Canvas):
        own = [each.name for each in fields(Preprocessing)]
        parts = [{option: part.to_dict()[option] for option in own} for part in prepares.parts]
        data = {**data, "image_size": None, "mean": None, "std": None, "preprocessing": parts}
    return Cascade(networks, combine, rows=rows).eval(), {**recipes[0], "network": recipe, "data": data}


def _open(candidate: CandidateName, config: DictConfig) -> tuple[TrainedNetwork, ImageData]:
    name, source = candidate.network, candidate.source
    if name is None:
        trained = load_trained(source)
        return trained, build_data_of(trained, config.data)
    chosen = plain(config.data)
    data: ImageData = build("data", config.data)
    ours = name in list_networks()
    if not (ours or data.facts.in_memory):
        known = published_preprocessing(create_classifier(name, 1), source)
        said = {option: value for option, value in known.items() if chosen.get(option) is None}
        candidate = candidate._replace(preprocessing=_resized({**said, **candidate.preprocessing}, known))
    if candidate.preprocessing:
        chosen = {**chosen, "preprocessing": [dict(candidate.preprocessing)]}
    data = build_data(OmegaConf.create(chosen))
    options: dict[str, Any] = {"num_classes": data.num_classes, "image_size": data.image_size}
    options["in_channels"] = data.facts.channels
    recipe: dict[str, Any] = {"name": name, "options": options}
    network: StagedNetwork
    if ours:
        network = create_network(name, **options)
    else:
        network, recipe = named_classifier(name, **options), {**recipe, "classifier": True}
    load_weights(network, source)
    require_channels(network, data.facts, data.name)
    recipes = {"network": recipe, "data": chosen, "record": data.record().to_dict()}
    return TrainedNetwork(network.eval(), recipes, Path(source), epoch=0), data


def _resized(options: dict[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options with the package's share of the picture before the crop, where another size was chosen."""
    if not known or options["image_size"] == known["image_size"] or options["resize"] != known["resize"]:
        return options
    covered, seen = (max(np.atleast_1d(known[each])) for each in ("resize", "image_size"))
    resize = [int(side * covered / seen) for side in sides(checked_image_size(options["image_size"]))]
    return {**options, "resize": resize}


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


def _short(names: Sequence[CandidateName]) -> list[str]:
    """Return names for tables; with the weights or the whole path where two would be the same."""
    short = list(map(str, names))
    return [own if short.count(own) == 1 else f"{own} ({each.source})" for own, each in zip(short, names, strict=True)]
