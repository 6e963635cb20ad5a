"""Epochs per second of a published CIFAR network with each measure against slow training on and off.

    python -m benchmarks.training [NETWORK] [STEPS]

On a GPU the enemy is the launching of small kernels: half precision, channels_last, compilation and CUDA graphs are
added one by one, and each is taken away from all together. On a CPU only the first two are tried: compiling takes
minutes.
"""

from __future__ import annotations

import sys
import time
from functools import partial
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch.optim import SGD

from ranet import MultiExitClassifier, create_network
from ranet.cli.run_folder import environment
from ranet.training import step_schedule

BATCH = 64
IMAGES = 45_000  # of an epoch: CIFAR without the validation images


def measures(cuda: bool) -> dict[str, dict[str, Any]]:
    """What to add to eager float32 training, one after the other."""
    found: dict[str, dict[str, Any]] = {"bf16": {"bf16": True}, "channels_last": {"channels_last": True}}
    if cuda:
        found |= {"compiled": {"compile": True}, "CUDA graphs": {"compile": "reduce-overhead"}}
    return found


def seconds_per_step(name: str, device: torch.device, steps: int, bf16: bool = False, **options: Any) -> float:
    """Median time of training steps: images that lie on the device, loss, backward pass, SGD and metrics."""
    torch.manual_seed(0)
    optimizer, schedule = partial(SGD, lr=0.01, momentum=0.9), partial(step_schedule, milestones=[0.5])
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
    torch._dynamo.reset()
    return sorted(times)[len(times) // 2]


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def main() -> None:
    """Time the network on the device that there is, and print the table."""
    name = sys.argv[1] if len(sys.argv) > 1 else "ranet_cifar_anytime"
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    steps = int(sys.argv[2]) if len(sys.argv) > 2 else (50 if device.type == "cuda" else 2)
    wanted = measures(device.type == "cuda")
    everything = {option: value for options in wanted.values() for option, value in options.items()}
    cases: dict[str, dict[str, Any]] = {"eager, float32": {}}
    so_far: dict[str, Any] = {}
    for about, options in wanted.items():
        so_far = {**so_far, **options}
        cases[f"+ {about}"] = so_far
    for about, options in wanted.items():
        if about != "compiled":  # of which CUDA graphs are a part
            without = {option: value for option, value in everything.items() if option not in options}
            cases[f"all without {about}"] = {**without, **({"compile": True} if about == "CUDA graphs" else {})}
    table = Table("measures", "ms a step", "epochs/s", title=f"{name}, batch {BATCH}, {device.type}")
    for about, options in cases.items():
        seconds = seconds_per_step(name, device, steps, **options)
        table.add_row(about, f"{1e3 * seconds:.2f}", f"{BATCH / (seconds * IMAGES):.4f}")
    console = Console(width=120)
    console.print(table)
    machine = environment()
    where = ", ".join(machine["gpus"]) or f"{machine['processor']}, {machine['threads']} threads"
    console.print(f"{where}, torch {machine['packages']['torch']}; median of 5 times {steps} steps")


if __name__ == "__main__":
    main()
