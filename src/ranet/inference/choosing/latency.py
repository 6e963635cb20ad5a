"""Measure the latency of every fused stage of a network in the early-exit engine on this machine."""

from __future__ import annotations

import math
import platform
from collections.abc import Callable
from pathlib import Path

import torch

from ranet.cost.timings import Timings
from ranet.errors import UserError, first_line
from ranet.inference.choosing.latency_profile import LatencyProfile
from ranet.inference.choosing.open_backend import open_network, runtime_version
from ranet.inference.runtimes.backend import Backend, Precision, Runtime
from ranet.inference.runtimes.stage_times import time_chains
from ranet.inference.stages.fused_stages import FusedStage
from ranet.models.fingerprint import network_fingerprint
from ranet.models.staged import StagedNetwork
from ranet.support.hardware import compute_threads, device_name
from ranet.support.numbers import require_count


def measure_latency(
    network: StagedNetwork,
    batch_size: int = 1,
    *,
    backend: str = "auto",
    device: torch.device | str | None = None,
    precision: Precision = "float32",
    threads: int | None = None,
    min_run_time: float = 0.2,
    cache: str | Path | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> LatencyProfile:
    """Time every fused stage of a network as the early-exit engine runs it: the stages a..b in one, for every a <= b.

    A fused stage takes in the state that the one before it hands on, computes, and ends with the logits and scores of
    its exit, by which images leave. So cuts and decisions are included. The stages run in chains, one after another as
    those of a whole network.

    Args:
        network: any staged network; a copy of it is run.
        batch_size: images in a batch; one of the sizes that the backend computes, where these are fixed.
        backend: this and the next three as for `ranet.EarlyExitEngine`.
        device: for PyTorch.
        precision: "float32" or "bfloat16".
        threads: processor threads for one operator.
        min_run_time: seconds, for each of the K (K + 1) / 2 fused stages, that all runs together take; each runs at
            least five times.
        cache: folder of graphs and of the choice of "auto".
        progress: called with how much is measured, and of how much.

    Raises:
        UserError: for an invalid size or time, a batch that the backend cannot run on, or as `ranet.EarlyExitEngine`.

    Example:
        >>> from ranet.models import create_network
        >>> profile = measure_latency(create_network("msdnet_tiny"), backend="torch", min_run_time=0.001)
        >>> profile.table_ms.shape, len(profile.batch_ms_alone_p95), profile.backend
        ((5, 5), 5, 'torch')
    """
    require_count("batch_size", batch_size)
    if not 0 < min_run_time < math.inf:
        raise UserError(f"min_run_time={min_run_time} must be a positive number of seconds.")
    threads_before = torch.get_num_threads()
    try:
        runtime = open_network(network, Runtime(backend, device, precision, threads, cache=cache)).backend
        if runtime.device == "meta":
            raise UserError("device=meta cannot be timed; choose cpu or cuda.")
        timed = time_fused_stages(runtime, batch_size, min_run_time, progress)
        return LatencyProfile(
            network=network_fingerprint(network, weights=False),
            backend=runtime.name,
            runtime_version=runtime_version(runtime.name),
            precision=runtime.precision,
            batch_size=batch_size,
            image_size=runtime.facts.image_size,
            device=runtime.device,
            hardware=device_name(torch.device(runtime.device)),
            threads=torch.get_num_threads() if runtime.name == "torch" else threads or compute_threads(),
            platform=platform.platform(),
            stages=timed,
        )
    finally:
        torch.set_num_threads(threads_before)  # PyTorch's are those of the whole process


def time_fused_stages(
    backend: Backend, batch_size: int, min_run_time: float, progress: Callable[[int, int], object] | None = None
) -> tuple[tuple[Timings, ...], ...]:
    """Return the timings of all fused stages, as in `LatencyProfile.stages`; see `measure_latency`."""
    if backend.fixed_sizes is not None and batch_size not in backend.fixed_sizes:
        raise UserError(
            f"batch_size={batch_size} must be one of {', '.join(map(str, backend.fixed_sizes))}, which are the sizes "
            f"that the backend {backend.name} computes."
        )
    exits = backend.facts.num_exits
    rows = [[FusedStage(first, last) for last in range(first, exits)] for first in range(exits)]
    chains = [(backend, chain) for chain in covering_chains(exits)]
    try:
        timed = time_chains(chains, batch_size, min_run_time * sum(map(len, rows)), progress)
    except UserError:
        raise
    except (RuntimeError, ValueError, MemoryError) as error:
        raise UserError(
            f"The network cannot run on a batch of {batch_size} images in the backend {backend.name} on "
            f"{backend.device}; choose a smaller one ({first_line(error)})."
        ) from error
    return tuple(
        tuple(Timings.of([step.step for each in timed for step in each.get(stage, ())]) for stage in row)
        for row in rows
    )


def covering_chains(num_exits: int) -> list[list[FusedStage]]:
    """Return chains from the images to the last exit that hold every fused stage, each the most that are missing.

    Example:
        >>> for chain in covering_chains(3):
        ...     print([tuple(stage) for stage in chain])
        [(0, 0), (1, 1), (2, 2)]
        [(0, 0), (1, 2)]
        [(0, 1), (2, 2)]
        [(0, 2)]
    """
    missing = {FusedStage(first, last) for first in range(num_exits) for last in range(first, num_exits)}
    chains = []
    while missing:
        best: list[list[FusedStage]] = [[]]  # from a stage to the end, the nearest stage first
        for first in reversed(range(num_exits)):
            ways = [[FusedStage(first, last), *best[last - first]] for last in range(first, num_exits)]
            best.insert(0, max(ways, key=lambda way: len(missing.intersection(way))))
        chains.append(best[0])
        missing.difference_update(best[0])
    return chains
