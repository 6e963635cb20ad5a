"""Scores that are computed once: a pass over a data set that goes on where it was stopped, and is kept when done."""

from __future__ import annotations

import hashlib
import json
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ranet.calibration.scores.exit_scores import ExitScores
from ranet.calibration.scores.files import read_score_arrays
from ranet.errors import UserError
from ranet.support.files import written_whole
from ranet.support.strict_json import canonical_json, plain

SCORING_VERSION = 1
"""To be raised when `score_logits` gives other numbers than before, so that nobody reads what the old one gave."""
Batch = tuple[Tensor, Tensor]


class ScoreCache:
    """A folder of exit scores, by what they are scores of.

    A file is found by the hash of a key that says everything the scores depend on, and read only if the whole key
    stands in it: other weights, images or temperatures are another file, never a stale one. A damaged file is as good
    as none. The file is a score file like any other, with the key as the comment of the archive.

    During a pass the scores are written every few seconds to files of their own, each with the batches that came since
    the last, so a pass that was killed has little to do again. Processes that score the same at the same time do work
    twice, but no harm.

    Args:
        folder: made when something is written. If it cannot be written, a warning says so and the pass goes on.
        flush_seconds: how much work, in seconds, a killed pass may lose.

    Example:
        >>> import tempfile
        >>> network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Unflatten(0, (1, -1)))
        >>> cache, key = ScoreCache(tempfile.mkdtemp()), {"network": "3f0a", "data": "77c1"}
        >>> scores = cache.collect(network, [(torch.zeros(2, 1, 2, 2), torch.tensor([0, 1]))], key)
        >>> cache.collect(network, [], key).num_images  # no batch is asked for
        2
    """

    def __init__(self, folder: str | Path, flush_seconds: float = 30.0) -> None:
        self.folder = Path(folder)
        self.flush_seconds = flush_seconds

    def collect(
        self,
        network: nn.Module,
        loader: Iterable[Batch],
        key: Mapping[str, Any],
        device: torch.device | str | None = None,
        *,
        temperatures: npt.ArrayLike | None = None,
        keep_logits: bool = False,
        labelled: bool = True,
    ) -> ExitScores:
        """What ``ExitScores.collect`` gives, bit for bit, from the cache or from as much of a pass as is missing.

        A pass is continued behind those of its first batches that had the same sizes before. A loader with
        ``load_state_dict`` and a ``sampler`` with ``batches`` (``ranet.data.EpochLoader``) skips them unread; any other
        is asked for them, but the network is not.

        Args:
            network: as for ``ExitScores.collect``.
            loader: likewise; it gives the same batches in the same order each time.
            key: fingerprints of the network (``network_fingerprint``) and of the data with split, part and transform
                (``ImageData.fingerprint``), and whatever else the logits depend on, as values that JSON can hold. The
                next three arguments are added to it here.
            device: as for ``ExitScores.collect``.
            temperatures: likewise.
            keep_logits: likewise; logits are written, too, and take much more room.
            labelled: likewise.

        Raises:
            UserError: as ``ExitScores.collect`` does.
        """
        options: dict[str, Any] = {
            "temperatures": None if temperatures is None else np.asarray(temperatures, dtype=np.float64),
            "keep_logits": keep_logits,
            "labelled": labelled,
        }
        text = canonical_json(plain({"scoring": SCORING_VERSION, "of": key, **options}))
        path = self.folder / f"scores_{hashlib.sha256(text.encode()).hexdigest()[:32]}.npz"
        kept = _read(path, text)
        if kept is not None:
            return kept[0]

        scored, sizes = _read_partial(path, text)
        done, batches = _after(loader, sizes)
        images, writable = sum(sizes[:done]), True
        parts = [ExitScores.concatenate(scored).subset(slice(0, images))] if done else []
        for first in batches:
            until = time.monotonic() + self.flush_seconds
            sizes = []
            slice_of_them = _until(until, chain([first], batches), sizes)
            parts.append(ExitScores.collect(network, slice_of_them, device, **options))
            if time.monotonic() >= until:  # else these were the last batches
                writable = writable and _write(_partial(path, images), parts[-1], text, sizes)
            images += sum(sizes)
        if not parts:
            raise UserError("There are no images to score: the loader gave no batch; check the split and drop_last.")
        scores = ExitScores.concatenate(parts)
        if writable and _write(path, scores, text, []):
            for partial in self.folder.glob(_partial(path, "*").name):
                partial.unlink(missing_ok=True)
        return scores


def _until(moment: float, batches: Iterator[Batch], sizes: list[int]) -> Iterator[Batch]:
    """The batches that are taken before a moment of ``time.monotonic``, at least one; their sizes are noted."""
    for batch in batches:
        sizes.append(len(batch[0]))
        yield batch
        if time.monotonic() >= moment:
            return


def _after(loader: Any, sizes: Sequence[int]) -> tuple[int, Iterator[Batch]]:
    """How many of a loader's first batches have these sizes, and the batches after them."""
    if hasattr(loader, "load_state_dict") and hasattr(getattr(loader, "sampler", None), "batches"):
        present = [len(batch) for batch in loader.sampler.batches()]
        done = _common(sizes, present)
        if done < len(present):
            loader.load_state_dict({"given": done})
        return done, iter(loader) if done < len(present) else iter(())
    batches = iter(loader)
    for done, size in enumerate(sizes):
        batch = next(batches, None)
        if batch is None:
            return done, batches
        if len(batch[0]) != size:
            return done, chain([batch], batches)
    return len(sizes), batches


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """The length of the longest beginning that two sequences share."""
    for i, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return i
    return min(len(one), len(other))


def _partial(path: Path, first_image: int | str) -> Path:
    # Not numbered: passes with other batches, or two at the same time, end their parts elsewhere, and what follows a
    # part must be of the images that follow.
    return path.with_name(f"{path.stem}_from_{first_image}.npz")


def _read_partial(path: Path, key: str) -> tuple[list[ExitScores], list[int]]:
    """What an earlier pass left: scores, and the sizes of the batches that they are of."""
    parts: list[ExitScores] = []
    sizes: list[int] = []
    while (found := _read(_partial(path, sum(sizes)), key)) is not None and found[1]:
        parts.append(found[0])
        sizes += found[1]
    return parts, sizes


def _write(path: Path, scores: ExitScores, key: str, sizes: Sequence[int]) -> bool:
    """Write a score file with its key and the sizes of its batches; false, after a warning, if it cannot be."""
    try:
        with written_whole(path) as partial:
            scores.save(partial)
            with ZipFile(partial, "a") as archive:
                note = {"key": key, "arrays": sorted(archive.namelist()), "batches": _runs(sizes)}
                archive.comment = _sealed(canonical_json(note))
    except OSError as error:
        warnings.warn(
            f"The scores cannot be kept in {path.parent} ({error.strerror or error}), so they will be computed again "
            "next time.",
            stacklevel=3,
        )
        return False
    return True


def _read(path: Path, key: str) -> tuple[ExitScores, list[int]] | None:
    """The scores in a file of this key and the sizes of their batches; None if it is missing, damaged or of another."""
    try:
        with ZipFile(path) as archive:
            seal, text = archive.comment[:64], archive.comment[64:].decode()
            note, names = json.loads(text), sorted(archive.namelist())
        if seal + text.encode() != _sealed(text) or note["key"] != key or note["arrays"] != names:
            return None
        # Each array has a checksum in the archive, which reading verifies.
        arrays: dict[str, Any] = read_score_arrays(path)
        scores = ExitScores(**arrays)
        sizes = [size for size, count in note["batches"] for _ in range(count)]
    except Exception:  # bytes that are no score file can raise anything
        return None
    return scores, sizes


def _sealed(text: str) -> bytes:
    """A text behind its sha256: unlike its arrays, the comment of an archive has no checksum."""
    return hashlib.sha256(text.encode()).hexdigest().encode() + text.encode()


def _runs(sizes: Sequence[int]) -> list[list[int]]:
    """Equal neighbours counted: the comment of an archive holds 64 KiB, and nearly all batches are of one size."""
    runs: list[list[int]] = []
    for size in sizes:
        if runs and runs[-1][0] == size:
            runs[-1][1] += 1
        else:
            runs.append([size, 1])
    return runs
