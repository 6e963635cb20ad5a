"""How long the parts take on this machine: solving thresholds, counting costs, the data loader, a training step."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch.optim import SGD
from torch.utils.benchmark import Measurement, Timer

from ranet import (
    ExitScores,
    InlineCollaboration,
    MultiExitClassifier,
    StagedNetwork,
    calibrate_each,
    calibrate_risk,
    create_network,
    list_networks,
    measure_costs,
)
from ranet.calibration import POLICIES
from ranet.cli.outputs.run_folder import environment
from ranet.data import ImageData
from ranet.evaluation import budgeted_curve
from ranet.training import step_schedule
from ranet.training.run.process_memory import keep_freed_memory
from ranet.training.techniques.teachers import LastExit

BATCH = 64  # of the papers on CIFAR
WITH_TECHNIQUES = ("msdnet_cifar_budgeted_5", "ranet_cifar_budgeted_1")
TECHNIQUES: dict[str, dict[str, Any]] = {
    "equilibrium": {"equilibrium": "all"},
    "collaboration": {"collaboration": True},
    "distillation": {"teacher": LastExit()},
    "all three": {"equilibrium": "all", "collaboration": True, "teacher": LastExit()},
    "frozen backbone, collaboration": {"collaboration": True, "freeze_backbone": True},
}


def timed(about: str, statement: str, **names: object) -> tuple[str, Measurement]:
    """Time a statement for at least a second, after a warm-up."""
    timer = Timer(statement, globals=names, num_threads=torch.get_num_threads())
    timer.timeit(1)
    return about, timer.blocked_autorange(min_run_time=1.0)


def random_scores(exits: int, images: int, seed: int) -> ExitScores:
    """Scores of a network that gets better from exit to exit."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(10, size=images)
    logits = rng.normal(size=(exits, images, 10)).astype(np.float32)
    logits[:, np.arange(images), labels] += np.linspace(1, 4, exits, dtype=np.float32)[:, None]
    return ExitScores.from_logits(logits, labels)


def thresholds() -> list[tuple[str, Measurement]]:
    """The papers' sweep of 39 ratios over 5 exits; budgets and curves of budgets for 10 exits of 50,000 images."""
    validation, test = random_scores(5, 5_000, 0), random_scores(5, 10_000, 1)
    small = [7e6, 14e6, 27e6, 41e6, 58e6]
    large, costs = random_scores(10, 50_000, 2), np.linspace(0.3e9, 3e9, 10)
    sweep = "budgeted_curve(validation, test, costs)"
    rows = [
        timed("sweep of 39 ratios, 5 exits x (5,000 + 10,000) images", sweep, budgeted_curve=budgeted_curve,
              validation=validation, test=test, costs=small)
    ]  # fmt: skip
    for family in POLICIES:
        for about, budgets in (("one budget", [1e9]), ("100 budgets", np.linspace(0.4e9, 2.9e9, 100))):
            solve = "calibrate_each(large, costs, budgets, policy=family)"
            names = {"calibrate_each": calibrate_each, "large": large, "costs": costs, "budgets": budgets}
            rows.append(timed(f"{family}: {about}, 10 exits x 50,000 images", solve, family=family, **names))
    risk = "calibrate_risk(large, costs, eps=0.01)"
    rows.append(timed("risk: 10 exits x 50,000 images", risk, calibrate_risk=calibrate_risk, large=large, costs=costs))
    return rows


def data() -> list[tuple[str, Measurement]]:
    """An epoch of the device-resident loader, with augmentation."""
    loader = ImageData("digits", batch_size=BATCH).train_dataloader()
    return [timed(f"device loader, {len(loader)} batches of {BATCH}", "for batch in loader: pass", loader=loader)]


def networks() -> list[tuple[str, Measurement]]:
    """Counting the costs of a network, and its training step in float32; for two of them with each technique."""
    rows = []
    for name in list_networks("*_cifar_*"):
        network = create_network(name)
        rows.append(timed(f"{name}: counting its costs", "measure(network)", measure=measure_costs, network=network))
        rows.append(timed(f"{name}: training step", "step()", step=training_step(network)))
        if name in WITH_TECHNIQUES:
            rows += [
                timed(f"{name}: training step, {about}", "step()", step=training_step(create_network(name), **options))
                for about, options in TECHNIQUES.items()
            ]
    return rows


def training_step(network: StagedNetwork, collaboration: bool = False, **options: Any) -> Callable[[], None]:
    """A step on one batch, as ``ranet train`` takes it: loss, backward pass, SGD and metrics."""
    optimizer, schedule = partial(SGD, lr=0.01, momentum=0.9, fused=True), partial(step_schedule, milestones=[0.5])
    network = InlineCollaboration(network) if collaboration else network
    classifier = MultiExitClassifier(network, optimizer, schedule, **options)
    sgd, _ = classifier.make_optimization(epochs=1)
    batch = torch.randn(BATCH, 3, 32, 32), torch.randint(10, (BATCH,))

    def step() -> None:
        classifier.training_step(batch, 0).backward()
        sgd.step()
        sgd.zero_grad()

    return step


PARTS = {"thresholds": thresholds, "data": data, "networks": networks}


def main() -> None:
    """Print every measurement with its spread, and what machine it is of; with words, of these PARTS alone."""
    machine = environment()
    parts = sys.argv[1:] or list(PARTS)
    keep_freed_memory()  # as ranet train does
    table = Table(
        "what",
        "median ms",
        "spread ms (IQR)",
        "runs",
        title=f"ranet benchmarks: float32, training with batches of {BATCH}",
    )
    for about, measured in (row for part in parts for row in PARTS[part]()):
        table.add_row(about, f"{1e3 * measured.median:.2f}", f"{1e3 * measured.iqr:.2f}", str(len(measured.times)))
    console = Console(width=120)
    console.print(table)
    console.print(f"{machine['processor']}, {machine['threads']} threads, torch {machine['packages']['torch']}")


if __name__ == "__main__":
    main()
