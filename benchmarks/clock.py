"""Accuracy against measured milliseconds: networks alone, cascades of them, and runs with exits, in every runtime.

    python -m benchmarks.clock FOLDER [OPTION=VALUE ...] [--runs RUN ...] [--alone NAME:TOP1 ...] [--at TOP1 ...]

The options are those of `ranet cascade` and name the candidates and the data. The test images are halved (even and odd
ones): everything is chosen and solved on one half and reported on the other, both ways, so accuracies are of all
images. Cascades are chosen by multiply-adds for the budgets of a grid, and answer with averaged probabilities. Runs
are trained networks with exits of their own; their policies are solved for shares of their whole cost. Networks of
ranet that are only named, with their published top-1 in percent, run with random weights.

All that is compared takes turns of some images in random order; a time is the median over the turns. It writes
``clock.csv`` (every point), ``against.csv`` (for some accuracies the time of the networks alone, of cascades and of
runs, between their points) and ``clock.png``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from hydra import compose, initialize_config_module
from matplotlib.figure import Figure
from omegaconf import DictConfig
from rich.console import Console

from benchmarks.engine import calling, in_turns, streaming
from ranet import EarlyExitEngine, ExitPolicy, StagedNetwork, calibrate_each, create_network, load_trained
from ranet.calibration.solvers.cascades import CascadeSearch, Members
from ranet.cli.inputs.candidates import Candidate, load_candidates, one_network
from ranet.cli.inputs.scoring import score, score_cache
from ranet.cli.inputs.trained import build_data_of
from ranet.cli.outputs.run_folder import environment
from ranet.cost.profile import measure_costs
from ranet.data.module import ImageData
from ranet.evaluation.figures.style import (
    FAINT,
    MSDNET,
    OURS,
    PAGE,
    RANET,
    legend_below,
    minor_grid,
    new_figure,
    save_figure,
    styled,
)
from ranet.inference.stages.fused_stages import used_exits
from ranet.models.checkpoint_files import LAST
from ranet.support.console import print_sheets
from ranet.support.sheet import Row, Sheet

RUNTIMES = (("openvino", "float32"), ("onnxruntime", "float32"), ("torch", "float32"))
BUDGETS, SHARES, ROUNDS = 8, (0.4, 0.5, 0.6, 0.75, 1.0), 7
IMAGES = {1: 40, 64: 384}  # in a turn, by the batch size
ALONE, CASCADE = "networks alone", "cascades"
COLOURS = (RANET, MSDNET, "#CC79A7", "#E69F00")
Images = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Half:
    """What answers the images of one half: a network, and a policy that was solved on the other half."""

    network: StagedNetwork
    policy: ExitPolicy
    data: ImageData
    even: bool

    def images(self, count: int) -> Images:
        """Return the first images of this half as the network reads them."""
        part = torch.arange(0 if self.even else 1, self.data.size("test"), 2)[:count]
        return torch.cat([batch for batch, _ in self.data.evaluation_loader("test", part)]).numpy()


@dataclass(frozen=True, eq=False)
class Point:
    """What is compared: a network for each half, with top-1 accuracy and mean cost on all images."""

    kind: str
    name: str
    halves: Sequence[Half]
    accuracy: float
    macs: float


def networks_alone(candidates: Sequence[Candidate], published: Sequence[str]) -> list[Point]:
    """Return the candidates alone, and networks with random weights and their published accuracy."""
    found = []
    for one in candidates:
        assert one.trained is not None
        assert one.data is not None
        half = Half(one.trained.network, ExitPolicy(()), one.data, even=True)
        found.append(Point(ALONE, one.name, [half], float(one.scores.correct[-1].mean()), one.costs.stages[0, -1]))
    for name, _, percent in (given.partition(":") for given in published):
        like = found[0].halves[0]
        options: dict[str, Any] = {"num_classes": like.network.num_classes, "image_size": like.network.image_size}
        network = create_network(name, **options).eval()
        macs = measure_costs(network).macs_per_exit[-1]
        found.append(Point(ALONE, name, [replace(like, network=network)], float(percent) / 100, macs))
    return found


def cascades(candidates: Sequence[Candidate]) -> list[Point]:
    """Return the best cascade of each budget."""
    even = np.arange(candidates[0].scores.num_images) % 2 == 0
    searches = {
        is_even: CascadeSearch(
            [one.scores.subset(even == is_even) for one in candidates], [one.costs for one in candidates]
        )
        for is_even in (True, False)
    }
    costs = sorted(one.costs.stages[0, -1] for one in candidates)
    networks: dict[Members, tuple[StagedNetwork, ImageData]] = {}
    found = []
    for budget in np.geomspace(1.06 * costs[0], costs[-1], BUDGETS):
        halves, right, spent, names = [], [], [], []
        for is_even, search in searches.items():
            choice = searches[not is_even].within(float(budget))
            assert choice is not None, "the cheapest candidate costs less"
            paid, answered = search.apply(choice)
            right.append(answered)
            spent.append(paid)
            names.append(", ".join(candidates[i].name for i in choice.members.which))
            if choice.members not in networks:
                members = [candidates[i] for i in choice.members.which]
                network, recipe = one_network(members, choice.members.combine)
                options = {option: value for option, value in recipe["data"].items() if option != "_target_"}
                networks[choice.members] = network, ImageData(**options)
            network, data = networks[choice.members]
            halves.append(Half(network, ExitPolicy(tuple(choice.thresholds.tolist())), data, is_even))
        name = " / ".join(dict.fromkeys(names))
        found.append(Point(CASCADE, name, halves, float(np.concatenate(right).mean()), float(np.mean(spent))))
    return found


def with_exits(run: Path, data_options: DictConfig) -> list[Point]:
    """Return a trained network with exits of its own, for shares of its whole cost."""
    trained = load_trained(run / "checkpoints" / LAST)  # the best was chosen on some of these images
    data = build_data_of(trained, data_options)
    scores = score(trained, data, "test", score_cache(None))
    table = measure_costs(trained.network).table("macs")
    budgets = [share * float(table.stages[0, -1]) for share in SHARES]
    even = np.arange(scores.num_images) % 2 == 0
    parts = {is_even: scores.subset(even == is_even) for is_even in (True, False)}
    solved = {is_even: calibrate_each(parts[not is_even], table, budgets) for is_even in (True, False)}
    found = []
    for i, share in enumerate(SHARES):
        halves, right, spent = [], [], []
        for is_even, part in parts.items():
            policy = solved[is_even][i].policy
            exits = policy.exits(part)
            answered = part.correct_at(exits)
            assert answered is not None, "the images have labels"
            right.append(answered)
            spent.append(table.cumulative(used_exits_and_last(policy))[exits])
            halves.append(Half(trained.network, policy, data, is_even))
        accuracy, cost = float(np.concatenate(right).mean()), float(np.concatenate(spent).mean())
        found.append(Point(f"exits: {run.name}", f"{share:.0%}", halves, accuracy, cost))
    return found


def used_exits_and_last(policy: ExitPolicy) -> list[int]:
    """Return the exits at which a policy cuts the network, and the last."""
    return sorted({*used_exits(policy), policy.num_exits - 1})


def milliseconds(points: Sequence[Point], backend: str, precision: Any, size: int) -> npt.NDArray[np.float64]:
    """Return (points, rounds) the time of an image of each point in each round."""
    work: dict[tuple[int, int], Callable[[int], float]] = {}
    engines: dict[StagedNetwork, EarlyExitEngine] = {}
    sizes = [size] if backend == "openvino" else None
    for p, point in enumerate(points):
        for h, half in enumerate(point.halves):
            if half.network not in engines:
                engines[half.network] = EarlyExitEngine(
                    half.network, half.policy, backend, precision=precision, batch_sizes=sizes
                )
            work[p, h] = turn(engines[half.network], half, size)
    in_turns(work, [0])  # everything has run before it is timed
    found = in_turns(work, list(range(ROUNDS)))
    seconds = [np.mean([found[p, h] for h in range(len(point.halves))], axis=0) for p, point in enumerate(points)]
    return np.array(seconds) * 1e3 / IMAGES[size]


def turn(engine: EarlyExitEngine, half: Half, size: int) -> Callable[[int], float]:
    """Return a function that times some images of a half: by calls of one image, or as a stream of full batches."""
    count = IMAGES[size]
    images = half.images(ROUNDS * count)
    run = calling(engine, half.policy) if size == 1 else streaming(engine, half.policy, size, images)
    return lambda i: run(images[i * count : (i + 1) * count])


def against(rows: Sequence[Row], accuracies: Sequence[float]) -> list[Row]:
    """Return for each accuracy the time that each kind needs for it, and its share of the time of networks alone."""
    found: list[Row] = []
    for panel in panels_of(rows):
        for accuracy in accuracies:
            times = {kind: reached(points_in(rows, panel, kind), accuracy) for kind in kinds_of(rows)}
            alone = times.pop(ALONE)
            for kind, needed in times.items():
                row: Row = {"runtime": panel[0], "batch": panel[1], "top1_percent": accuracy, "kind": kind}
                share = None if needed is None or alone is None else needed / alone
                found.append({**row, "ms": needed, "alone_ms": alone, "share": share})
    return found


def panels_of(rows: Sequence[Row]) -> list[tuple[Any, Any]]:
    """Return runtimes and batch sizes, each pair once."""
    return list(dict.fromkeys((row["runtime"], row["batch"]) for row in rows))


def kinds_of(rows: Sequence[Row]) -> list[str]:
    """Return the kinds of what is compared."""
    return list(dict.fromkeys(str(row["kind"]) for row in rows))


def points_in(rows: Sequence[Row], panel: tuple[Any, Any], kind: str) -> list[tuple[float, float]]:
    """Return time and accuracy of a kind, in the order of its multiply-adds."""
    chosen = [row for row in rows if (row["runtime"], row["batch"], row["kind"]) == (*panel, kind)]
    chosen.sort(key=lambda row: float(row["M_multiply_adds"]))
    return [(float(row["ms"]), float(row["top1_percent"])) for row in chosen]


def reached(points: Sequence[tuple[float, float]], accuracy: float) -> float | None:
    """Return the time at which points (time, accuracy) reach an accuracy, on straight lines between them."""
    before: tuple[float, float] | None = None
    for time, here in points:
        if here >= accuracy:
            if before is None:
                return time
            return before[0] + (time - before[0]) * (accuracy - before[1]) / (here - before[1])
        before = (time, here) if before is None or here > before[1] else before
    return None


@styled
def clock_figure(rows: Sequence[Row]) -> Figure:
    """Draw top-1 accuracy against milliseconds, a panel for each runtime and batch size."""
    panels = panels_of(rows)
    least = min(float(row["top1_percent"]) for row in rows if row["kind"] == ALONE)
    most = max(float(row["top1_percent"]) for row in rows)
    figure = new_figure(PAGE, 2.3 * -(-len(panels) // 2))
    for axes, panel in zip(figure.subplots(-(-len(panels) // 2), 2).flat, panels, strict=False):
        others = iter(COLOURS)
        for kind in kinds_of(rows):
            points = points_in(rows, panel, kind)
            colour = FAINT if kind == ALONE else OURS if kind == CASCADE else next(others)
            axes.plot(*zip(*points, strict=True), "D:" if kind == ALONE else "o-", color=colour, label=kind)
        axes.set_title(f"{panel[0]}, {'one image' if panel[1] == 1 else f'batches of {panel[1]}'}")
        axes.set_xlabel("milliseconds an image")
        axes.set_ylabel("top-1 accuracy [%]")
        axes.set_xlim(left=0)
        axes.set_ylim(least - 0.5, most + 0.5)
        minor_grid(axes)
    legend_below(figure, 4)
    return figure


def main() -> None:
    """Compare what is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("options", nargs="*")
    parser.add_argument("--runs", nargs="*", type=Path, default=[])
    parser.add_argument("--alone", nargs="*", default=[])
    parser.add_argument("--at", nargs="*", type=float, default=[])
    parser.add_argument("--runtimes", nargs="*", default=[runtime for runtime, _ in RUNTIMES])
    given = parser.parse_intermixed_args()
    with initialize_config_module("ranet.conf", version_base="1.3"):
        config = compose("cascade", [*given.options, "split=test"])
    candidates = load_candidates(config)
    points = [*networks_alone(candidates, given.alone), *cascades(candidates)]
    for run in given.runs:
        points += with_exits(run, config.data)
    rows: list[Row] = []
    console = Console(width=150, highlight=False)
    console.print(environment())
    for backend, precision in (each for each in RUNTIMES if each[0] in given.runtimes):
        for size in IMAGES:
            found = milliseconds(points, backend, precision, size)
            for point, times in zip(points, found, strict=True):
                low, middle, high = np.quantile(times, (0.25, 0.5, 0.75))
                row: Row = {"runtime": backend, "batch": size, "kind": point.kind, "name": point.name}
                row |= {"top1_percent": 100 * point.accuracy, "M_multiply_adds": point.macs / 1e6}
                rows.append({**row, "ms": middle, "ms_quartile_low": low, "ms_quartile_high": high})
    sheet = Sheet(
        "Against the networks alone",
        against(rows, given.at or [100 * point.accuracy for point in points if point.kind == ALONE]),
    )
    given.folder.mkdir(parents=True, exist_ok=True)
    Sheet("Clock", rows).write_csv(given.folder / "clock.csv")
    sheet.write_csv(given.folder / "against.csv")
    save_figure(clock_figure(rows), given.folder / "clock.png")
    print_sheets(console, sheet)


if __name__ == "__main__":
    main()
