"""Epochs per second of a published CIFAR network with each measure against slow training on and off.

    python -m benchmarks.training [NETWORK] [STEPS]

The measures are added one by one, and each is taken away from all together, every time in a process of its own. On a
CPU they are what ``ranet train`` does there anyway (1x1 convolutions as matrix products, freed memory kept, a fused
optimizer), half precision and channels_last. On a GPU, where the enemy is the launching of small kernels: the fused
optimizer, half precision, channels_last, compilation and CUDA graphs.
"""

from __future__ import annotations

import multiprocessing
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.optim import SGD

from ranet import MultiExitClassifier, create_network
from ranet.cli.outputs.run_folder import environment
from ranet.models.papers.pointwise import PointwiseConv2d
from ranet.training import step_schedule
from ranet.training.run.process_memory import keep_freed_memory

BATCH = 64
IMAGES = 45_000  # of an epoch: CIFAR without the validation images
Options = dict[str, Any]

ON_CPU: dict[str, Options] = {
    "1x1 as matrix products": {"matrix_products": True},
    "freed memory kept": {"keep_memory": True},
    "fused SGD": {"fused": True},
    "bf16": {"bf16": True},
    "channels_last": {"channels_last": True},
}
ON_GPU: dict[str, Options] = {
    "fused SGD": {"fused": True},
    "bf16": {"bf16": True},
    "channels_last": {"channels_last": True},
    "compiled": {"compile": True},
    "CUDA graphs": {"compile": "reduce-overhead"},
}


def cases(measures: dict[str, Options]) -> dict[str, Options]:
    """What to time: nothing, the measures one after the other, and all without each of them."""
    found: dict[str, Options] = {"plain PyTorch, float32": {}}
    so_far: Options = {}
    for about, options in measures.items():
        so_far = {**so_far, **options}
        found[f"+ {about}"] = so_far
    for about, options in list(measures.items())[:-1]:
        if about != "compiled":  # of which CUDA graphs are a part
            found[f"all without {about}"] = {option: so_far[option] for option in so_far if option not in options}
    return found


def seconds_per_step(
    name: str,
    steps: int,
    matrix_products: bool = False,
    keep_memory: bool = False,
    fused: bool = False,
    bf16: bool = False,
    **options: Any,
) -> float:
    """Median time of training steps: images that lie on the device, loss, backward pass, SGD and metrics."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not matrix_products:
        PointwiseConv2d._conv_forward = nn.Conv2d._conv_forward  # type: ignore[method-assign]
    if keep_memory:
        keep_freed_memory()
    torch.manual_seed(0)
    optimizer, schedule = partial(SGD, lr=0.01, momentum=0.9, fused=fused), partial(step_schedule, milestones=[0.5])
    classifier = MultiExitClassifier(create_network(name), optimizer, schedule, **options).to(device)
    sgd, _ = classifier.make_optimization(epochs=1)
    images, labels = torch.randn(BATCH, 3, 32, 32, device=device), torch.randint(10, (BATCH,), device=device)

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            loss = classifier.training_step((images, labels), 0)
        loss.backward()
        sgd.step()
        sgd.zero_grad()

    for _ in range(3):  # compilation, and the choice of algorithms
        step()
    times = []
    for _ in range(5):
        _wait(device)
        begin = time.perf_counter()
        for _ in range(steps):
            step()
        _wait(device)
        times.append((time.perf_counter() - begin) / steps)
    return sorted(times)[len(times) // 2]


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def main() -> None:
    """Time the network on the device that there is, and print the table."""
    name = sys.argv[1] if len(sys.argv) > 1 else "ranet_cifar_budgeted_1"
    cuda = torch.cuda.is_available()
    steps = int(sys.argv[2]) if len(sys.argv) > 2 else (50 if cuda else 3)
    table = Table("measures", "ms a step", "epochs/s", title=f"{name}, batch {BATCH}, {'GPU' if cuda else 'CPU'}")
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), max_tasks_per_child=1) as processes:
        for about, options in cases(ON_GPU if cuda else ON_CPU).items():
            seconds = processes.submit(seconds_per_step, name, steps, **options).result()
            table.add_row(about, f"{1e3 * seconds:.2f}", f"{BATCH / (seconds * IMAGES):.4f}")
    console = Console(width=120)
    console.print(table)
    machine = environment()
    where = ", ".join(machine["gpus"]) or f"{machine['processor']}, {machine['threads']} threads"
    console.print(f"{where}, torch {machine['packages']['torch']}; median of 5 times {steps} steps")


if __name__ == "__main__":
    main()
