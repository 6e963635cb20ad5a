"""Which backend is the fastest here: measured once, and remembered."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from math import prod
from typing import Any

from ranet.errors import UserError
from ranet.inference.runtimes.backend import Backend, Runtime, largest_size, sized
from ranet.inference.runtimes.stage_times import measure_stages
from ranet.inference.stages.fused_stages import fused_stages
from ranet.support.files import written_whole
from ranet.support.hardware import available_cores, processor_name
from ranet.support.strict_json import canonical_json, parse_strict_json

#: Batch sizes that count alike: a single image, and a data set.
COMPARED = (1, 32)
log = logging.getLogger(__name__)


def fastest(names: Sequence[str], make: Callable[[str], Backend], fingerprint: str, runtime: Runtime) -> Backend:
    """Return the chosen backend; for "auto", the one with the least time for an image through all exits.

    That is measured over batches of 1 and of 32, and remembered in the cache for this network, processor and software.
    If the cache cannot be written, it is measured again the next time.

    Args:
        names: of the candidates for "auto", at least one; one alone is not measured.
        make: the backend of a name; a UserError where it cannot run the network.
        fingerprint: of the network.
        runtime: the choice.

    Raises:
        UserError: if no candidate can run the network.
    """
    if runtime.backend != "auto":
        return make(runtime.backend)
    if len(names) == 1:
        return make(names[0])
    key = {
        "network": fingerprint,
        "candidates": {name: runtime_version(name) for name in names},
        "precision": runtime.precision,
        "threads": runtime.threads or available_cores(),
        "batch_sizes": None if runtime.batch_sizes is None else list(runtime.batch_sizes),
        "hardware": processor_name(),
    }
    path = runtime.cache_folder / "backends" / f"{sha256(canonical_json(key).encode()).hexdigest()[:16]}.json"
    remembered: Any = None
    with suppress(OSError, ValueError, TypeError, KeyError):  # there is no file, or a damaged one
        remembered = parse_strict_json(path.read_text(encoding="utf-8"))["fastest"]
    if remembered in names:
        return make(remembered)
    log.info("Measuring which of %s is the fastest here; this happens once.", ", ".join(names))
    opened: dict[str, Backend] = {}
    times: dict[str, float] = {}
    refused: list[UserError] = []
    for name in names:
        # One that cannot run this network, or not in this precision, is no candidate, as long as another can.
        try:
            opened[name] = make(name)
            times[name] = _time(opened[name])
        except UserError as error:
            refused.append(error)
    if not times:
        raise refused[0]
    chosen = min(times, key=lambda name: times[name])
    try:
        with written_whole(path) as partial:
            partial.write_text(json.dumps({"fastest": chosen, "times": times, "key": key}, indent=1) + "\n")
    except OSError as error:
        log.warning("The fastest backend cannot be remembered in %s: %s.", path.parent, error.strerror)
    return opened[chosen]


def _time(backend: Backend) -> float:
    """Return the product of the times of an image in batches of the compared sizes: their ratios count alike."""
    stages = fused_stages(backend.facts.cuts)
    batches = [min(size, largest_size(backend.fixed_sizes, size)) for size in COMPARED]
    times = measure_stages(backend, [stages], sorted({sized(backend, rows) for rows in batches}))
    return prod(sum(times.step(stage, sized(backend, rows)) for stage in stages) / rows for rows in batches)


def runtime_version(backend: str) -> str:
    """Return the version of the package that a backend needs; "unknown" where it is not installed by that name."""
    try:
        return version(backend)
    except PackageNotFoundError:
        return "unknown"
