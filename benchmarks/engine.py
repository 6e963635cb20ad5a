"""What leaving costs: the engine beside the time of its stages, with everything compared in turns of a second.

    python -m benchmarks.engine [NETWORK ...] [--images N]

For thresholds that let random images leave so that their mean MACs are 25, 50 and 75 % of the network's, it prints

- ideal: the sum over the stages of the stage's own time for an image, times the share of images that reach it;
- measured: what an image takes in the engine, by `stream` in batches of 32 and by calls of one image, over the ideal;
- saving: the same over the time of the network whole with its last head alone, which is what a user gains;
- cuts: the sum of all stages over one graph with the logits of all exits;
- before any exit: the network as trained, in PyTorch and float32, over that graph.

The machine's speed drifts while it measures, so each turn answers a few hundred images, all that is compared takes its
turns in random order, and the figures are medians (and quartiles) of the ratios within a round of turns.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console

from ranet import EarlyExitEngine, ExitPolicy, ExitScores, StagedNetwork, calibrate_each, create_network, measure_costs
from ranet.benchmark.rivals import Run, all_exits, run_as_trained
from ranet.cli.outputs.run_folder import environment
from ranet.inference.choosing.open_backend import open_network
from ranet.inference.runtimes.backend import Backend, Runtime
from ranet.inference.stages.fused_stages import FusedStage

NETWORKS = ("msdnet_cifar_budgeted_5", "ranet_cifar_budgeted_1")
RUNTIMES = (
    ("openvino", "bfloat16"),
    ("openvino", "float32"),
    ("onnxruntime", "float32"),
    ("torch", "float32"),
    ("torch", "bfloat16"),
)
SHARES = (0.25, 0.5, 0.75)
ROUNDS = 16
TRAINED_IMAGES = 32  # of a part; the network as trained takes long
Images = npt.NDArray[np.float32]


def policies_for(network: StagedNetwork, images: Images) -> list[ExitPolicy]:
    """Return policies whose mean MACs on these images are the shares; labels play no part."""
    with torch.inference_mode():
        logits = torch.cat([network(torch.from_numpy(images[at : at + 100])) for at in range(0, len(images), 100)], 1)
    scores = ExitScores.from_logits(logits, logits[-1].argmax(dim=1))
    costs = measure_costs(network).lazy_macs_per_exit
    budgets = [share * costs[-1] for share in SHARES]
    return [found.policy for found in calibrate_each(scores, costs, budgets, alternatives=False)]


def in_turns(work: dict[Any, Callable[[Images], Any]], parts: list[Images], seed: int = 0) -> dict[Any, list[Any]]:
    """Return what each piece of work returns for each part; the pieces run in another random order for every part."""
    rng = np.random.default_rng(seed)
    found: dict[Any, list[Any]] = {name: [] for name in work}
    for part in parts:
        for name in rng.permutation(len(work)):
            key = list(work)[name]
            found[key].append(work[key](part))
    return found


def chain(backend: Backend, size: int, stages: list[FusedStage]) -> Callable[[Images], npt.NDArray[np.float64]]:
    """Return a function that times each stage on a part, in batches that go whole through all stages."""
    buffer = backend.buffer(stages[0], size)

    def run(part: Images) -> npt.NDArray[np.float64]:
        seconds = np.zeros(len(stages))
        for at in range(0, len(part), size):
            backend.copy_rows((part[at : at + size],), None, buffer, 0)
            state = buffer
            for i, stage in enumerate(stages):
                before = perf_counter()
                _, state = backend.run(stage, state, size)
                seconds[i] += perf_counter() - before
        return seconds

    return run


def timed(network: Run, size: int, most: int | None = None) -> Callable[[Images], float]:
    """Return a function that times a network that is not cut on a part, or on the first images of a part."""

    def run(part: Images) -> float:
        some = part[:most]
        before = perf_counter()
        for at in range(0, len(some), size):
            network(some[at : at + size])
        return (perf_counter() - before) * len(part) / len(some)

    return run


def streaming(engine: EarlyExitEngine, policy: ExitPolicy, size: int, images: Images) -> Callable[[Images], float]:
    """Return a function that times one endless stream of all images, over and over, for as many as a part has.

    It may read some more before it answers again; its time is that of as many as a part has.
    """
    read = 0

    def batches() -> Iterator[Images]:
        nonlocal read
        while True:
            for at in range(0, len(images) - size + 1, size):
                read += size
                yield images[at : at + size]

    answers = engine.stream(batches(), batch_size=size, policy=policy)

    def run(part: Images) -> float:
        begin, before = read, perf_counter()
        while read - begin < len(part):
            next(answers)
        return (perf_counter() - before) * len(part) / (read - begin)

    return run


def calling(engine: EarlyExitEngine, policy: ExitPolicy) -> Callable[[Images], float]:
    """Return a function that times calls of one image."""

    def run(part: Images) -> float:
        before = perf_counter()
        for at in range(len(part)):
            engine(part[at : at + 1], policy=policy)
        return perf_counter() - before

    return run


def ratios(values: npt.NDArray[np.float64]) -> str:
    """Return the median and the quartiles as a string."""
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    return f"{middle:.2f} [{low:.2f}, {high:.2f}]"


def compare(console: Console, network: StagedNetwork, images: Images, backend: str, precision: Any, size: int) -> None:
    """Measure one runtime at one batch size and print what was found."""
    policies = policies_for(network, images)
    sizes = None if backend in ("torch", "onnxruntime") else [size]
    engine = EarlyExitEngine(network, policies, backend, precision=precision, batch_sizes=sizes)
    exits = engine.backend.facts.num_exits
    single, whole = [FusedStage(k, k) for k in range(exits)], [FusedStage(0, exits - 1)]
    plans = [engine.plan(policy) for policy in policies]
    uncut = open_network(all_exits(network), Runtime(backend, precision=precision, batch_sizes=sizes)).backend
    work: dict[Any, Callable[[Images], Any]] = {
        "whole": chain(engine.backend, size, whole),
        "cut": chain(engine.backend, size, single),
        "all exits": chain(uncut, size, [FusedStage(0, 0)]),
        "trained": timed(run_as_trained(network), size, TRAINED_IMAGES),
    }
    for i, (policy, plan) in enumerate(zip(policies, plans, strict=True)):
        work["stages", i] = chain(engine.backend, size, plan.stages)
        work["engine", i] = calling(engine, policy) if size == 1 else streaming(engine, policy, size, images)
    parts = np.array_split(images[: len(images) // (ROUNDS * size) * ROUNDS * size], ROUNDS)
    in_turns(work, parts[:1])  # everything has run before it is timed
    found = in_turns(work, parts)
    of_whole, of_cut = np.array(found["whole"]).sum(axis=1), np.array(found["cut"]).sum(axis=1)
    of_all, of_trained = np.array(found["all exits"]).sum(axis=1), np.array(found["trained"])
    count = len(parts[0])
    each = {"whole": of_whole, "all exits": of_all, "as trained": of_trained}
    console.print(
        f"{backend} {precision}, batch {size}, {count * ROUNDS:,} images, ms an image: "
        + ", ".join(f"{name} {1e3 * np.median(seconds) / count:.3f}" for name, seconds in each.items())
    )
    console.print(
        f"  cuts {ratios(of_cut / of_all)}; before any exit {ratios(of_trained / of_all)} times as fast as trained, "
        f"with the last head alone {ratios(of_trained / of_whole)}"
    )
    for i, (share, policy, plan) in enumerate(zip(SHARES, policies, plans, strict=True)):
        left = np.concatenate([engine(part, policy=policy).exits for part in parts])
        reached = np.array([np.mean(left >= stage.first) for stage in plan.stages])
        ideal = (np.array(found["stages", i]) * reached).sum(axis=1)
        measured = np.array(found["engine", i])
        macs = plan.cost_per_exit[left].mean() / plan.cost_per_exit[-1]
        console.print(
            f"  {share:.0%} asked, {macs:.1%} of MACs: {1e3 * np.median(measured) / count:.3f} ms an image; over ideal "
            f"{ratios(measured / ideal)}; over whole {ratios(measured / of_whole)}"
        )


def main() -> None:
    """Measure the networks that are named, or the two published ones."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=NETWORKS)
    parser.add_argument("--images", type=int, default=10_240, help="in batches of 32; a tenth of them alone")
    options = parser.parse_args()
    console = Console(width=150, highlight=False)
    console.print(environment())
    for name in options.networks:
        torch.manual_seed(0)
        network = create_network(name).eval()
        size = network.image_size
        images = np.random.default_rng(0).standard_normal((options.images, 3, size, size), dtype=np.float32)
        console.print(f"\n{name}, random weights and images, seed 0")
        for backend, precision in RUNTIMES:
            compare(console, network, images, backend, precision, 32)
            compare(console, network, images[: len(images) // 10], backend, precision, 1)


if __name__ == "__main__":
    main()
