"""The origin of the rows of ranet predict: everything that decides them, and where another run can resume them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

from ranet.images.preprocessing import Prepares
from ranet.inference.engine.engine import EarlyExitEngine
from ranet.inference.engine.plan import Plan
from ranet.inference.images.files import ImageArray, ImageFiles
from ranet.inference.predictions.resumable import Origin

# In batches: the first chunk, and the longest. The last batch of a chunk is rarely full at the deeper stages.
_FIRST, _LONGEST = 4, 64


def origin_of(
    engine: EarlyExitEngine,
    plan: Plan,
    source: ImageFiles | ImageArray,
    preprocessing: Prepares,
    classes: Sequence[str] | None,
    **options: int | None,
) -> Origin:
    """Return everything that decides the rows, with further options: with the same origin they come out the same."""
    facts, policy = engine.backend.facts, plan.policy
    stages = [(step.stage.first, step.stage.last) for step in plan.steps]
    return Origin(
        things={
            "another network": facts.fingerprint,
            "another policy": [policy.score, policy.thresholds, policy.temperatures, stages],
            "other costs": [plan.unit, plan.cost_per_exit.tolist()],
            "other names of the classes": classes,
            "another preprocessing": preprocessing.to_dict(),
            "other images, or some that were changed since": images_digest(source),
        },
        options={
            "backend": engine.backend.name,
            "precision": engine.backend.precision,
            "device": engine.backend.device,
            **options,
            "ranet": version("ranet"),
        },
    )


def images_digest(source: ImageFiles | ImageArray) -> str:
    """Return a digest of the paths of the images, in order, and of the size and modification time of each file."""
    digest = sha256()
    for path in source.paths if isinstance(source, ImageFiles) else (source.path,):
        try:
            status = Path(path).stat()
            entry = [path, status.st_size, status.st_mtime_ns]
        except (OSError, ValueError):  # it is gone, or no path
            entry = [path]
        digest.update(json.dumps(entry).encode())
    return digest.hexdigest()


def chunk_ends(done: int, count: int, batch_size: int) -> Iterator[int]:
    """Yield the number of images up to the end of each chunk; they double at first, so that short runs can resume.

    Example:
        >>> list(chunk_ends(0, 1000, 8)), list(chunk_ends(64, 1000, 8))
        ([32, 64, 128, 256, 512, 1000], [128, 256, 512, 1000])
        >>> list(chunk_ends(0, 300, 1))
        [4, 8, 16, 32, 64, 128, 192, 256, 300]
    """
    longest = _LONGEST * batch_size
    while done < count:
        step = min(done, longest) or _FIRST * batch_size
        done = min(done + step, count)
        yield done
