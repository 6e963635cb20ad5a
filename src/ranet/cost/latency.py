"""Measuring how long each stage of a network takes on this machine."""

from __future__ import annotations

import copy
import logging
import math
import platform
from collections.abc import Callable
from functools import partial
from time import perf_counter

import torch
from torch import Tensor

from ranet.cost.latency_profile import LatencyProfile, Timings, is_count
from ranet.errors import UserError
from ranet.hardware import device_name
from ranet.models.fingerprint import network_fingerprint
from ranet.models.staged import StagedNetwork, State


def measure_latency(
    network: StagedNetwork,
    batch_size: int = 1,
    image_size: int | None = None,
    *,
    min_run_time: float = 0.5,
    device: torch.device | str | None = None,
) -> LatencyProfile:
    """Time each stage of a network, with its head, on a fixed random batch, and the whole network on the same batch.

    Every run is timed on its own, until the device has finished, because a decision to exit waits for its logits; so
    percentiles are those of runs, not of means over blocks. A stage starts from a state that was computed before.
    PyTorch uses as many threads as it does now (`torch.set_num_threads`).

    Args:
        network: any staged network; a copy of it is run in evaluation mode, and itself not changed.
        batch_size: images in a batch.
        image_size: height and width of the images in pixels; by default those that the network was built for.
        min_run_time: seconds for which each stage and the whole network are run, at least once, after a warm-up.
        device: where to run; by default where the network's parameters are.

    Raises:
        UserError: for a size or time that cannot be, a device that is not there, or a batch that the network cannot
            run on.

    Example:
        >>> from ranet.models import create_network
        >>> profile = measure_latency(create_network("msdnet_tiny"), min_run_time=0.01)
        >>> len(profile.ms_per_exit), profile.ms_per_exit[0] < profile.ms_per_exit[-1]
        (5, True)
    """
    size = network.image_size if image_size is None else image_size
    for name, value in (("batch_size", batch_size), ("image_size", size)):
        if not is_count(value):
            raise UserError(f"{name}={value} must be a whole number of at least 1.")
    if not 0 < min_run_time < math.inf:
        raise UserError(f"min_run_time={min_run_time} must be a positive number of seconds.")
    parameter = next((p for p in network.parameters() if p.is_floating_point()), torch.empty(0))
    model, where = _copy_on(network, parameter.device if device is None else device)
    with torch.inference_mode():
        try:
            images = torch.randn(batch_size, 3, size, size, generator=torch.Generator().manual_seed(0))
            images = images.to(where, parameter.dtype)
            stages = _stages(model, images)
        except (RuntimeError, ValueError) as error:
            raise UserError(
                f"The network cannot run on a batch of {batch_size} images of {size} pixels on {where}; choose others "
                f"({_first_line(error)})."
            ) from error
        timed = [_time(stage, where, min_run_time) for stage in stages]
        whole = _time(lambda: model(images), where, min_run_time)
    return LatencyProfile(
        network=network_fingerprint(network, weights=False),
        batch_size=batch_size,
        image_size=size,
        device=where.type,
        hardware=device_name(where),
        threads=torch.get_num_threads(),
        dtype=str(parameter.dtype).removeprefix("torch."),
        torch=str(torch.__version__),
        platform=platform.platform(),
        stages=tuple(timed),
        whole=whole,
    )


def _copy_on(network: StagedNetwork, device: torch.device | str) -> tuple[StagedNetwork, torch.device]:
    """A copy of the network in evaluation mode on a device, and the device."""
    model = copy.deepcopy(network).eval()
    try:
        where = torch.device(device)
        model = model.to(where)
    except (RuntimeError, AssertionError) as error:  # the latter where PyTorch was built without the device
        raise UserError(
            f"The network cannot be put on the device {str(device)!r}; choose another ({_first_line(error)})."
        ) from error
    if where.type == "meta":
        raise UserError("On the device 'meta' nothing takes time; choose the one that is to be measured.")
    return model, where


def _stages(network: StagedNetwork, images: Tensor) -> list[Callable[[], object]]:
    """Each stage as a call that can be repeated: what it starts from is computed here, by running them all once."""
    stages: list[Callable[[], object]] = []
    state: State | None = None
    logits: Tensor | None = None
    for k in range(network.num_exits):
        stage = partial(_run_stage, network, k, images, state, logits)
        state, logits = stage()
        stages.append(stage)
    return stages


def _run_stage(
    network: StagedNetwork, k: int, images: Tensor, state: State | None, previous_logits: Tensor | None
) -> tuple[State, Tensor]:
    """Run from exit k - 1, or from the images where there is no state yet, to the logits of exit k."""
    state = network.advance(k, network.stem(images) if state is None else state)
    return state, network.classify(k, state, previous_logits)


def _time(work: Callable[[], object], device: torch.device, min_run_time: float) -> Timings:
    seconds: list[float] = []

    def run() -> None:
        start = perf_counter()
        work()
        if device.type != "cpu":
            torch.accelerator.synchronize(device)
        seconds.append(perf_counter() - start)

    # The timer's own figures are means over blocks of runs: it chooses how many, and keeps garbage collection away. Its
    # default clock waits for the GPU, which costs time and is done above.
    # Here and quietly, because where it finds a CUDA toolkit but no GPU it says so on standard error.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    from torch.utils.benchmark import Timer

    timer = Timer("run()", timer=perf_counter, globals={"run": run}, num_threads=torch.get_num_threads())
    timer.blocked_autorange(min_run_time=min_run_time / 4)  # warm-up: clocks and caches settle
    measured = timer.blocked_autorange(min_run_time=min_run_time)
    return Timings.of(seconds[-measured.number_per_run * len(measured.raw_times) :])


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
