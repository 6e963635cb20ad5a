"""A cache of exit scores: a pass over a data set continues where it stopped, and a finished pass is kept."""

from __future__ import annotations

import hashlib
import json
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, groupby, takewhile
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
"""Raise this when `score_logits` gives other numbers than before, so that older cached scores are not used."""
Batch = tuple[Tensor, Tensor]


class ScoreCache:
    """A folder of exit scores, one file for each set of inputs that the scores depend on.

    The file name is the hash of a key that holds all these inputs. A file is read only if it holds the same key, so
    scores of other weights, images or temperatures are never used. A damaged file counts as missing. The file is an
    ordinary score file, with the key as the comment of the archive.

    During a pass, the scores of the latest batches are written every few seconds to a separate file, so a killed pass
    loses little. Processes that compute the same scores at the same time do the work twice, without harm.

    Args:
        folder: folder of the files, made when the first is written. If writing fails, the pass warns and continues.
        flush_seconds: seconds of work that a killed pass may lose.

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
        """Return the same bits as ``ExitScores.collect``, from the cache or by running the missing part of the pass.

        The loader must give the same batches in the same order each time. A pass continues after its first batches that
        have the same sizes as before. A loader with ``load_state_dict`` and a ``sampler`` with ``batches``
        (``ranet.data.EpochLoader``) skips these batches without reading them. Any other loader reads them, but the
        network does not run on them.

        The key holds the fingerprints of the network (``network_fingerprint``) and of the data with split, part and
        transform (``ImageData.fingerprint``), and all else that the logits depend on, as JSON values; the last three
        arguments are added. The other arguments and the errors are those of ``ExitScores.collect``. Files with logits
        are much larger.
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

        scored: list[ExitScores] = []
        sizes: list[int] = []
        while (found := _read(_partial(path, sum(sizes)), text)) is not None and found[1]:  # what an earlier pass left
            scored.append(found[0])
            sizes += found[1]
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
    """Yield at least one batch, and more until a moment of ``time.monotonic``; append their sizes to ``sizes``."""
    for batch in batches:
        sizes.append(len(batch[0]))
        yield batch
        if time.monotonic() >= moment:
            return


def _after(loader: Any, sizes: Sequence[int]) -> tuple[int, Iterator[Batch]]:
    """Return how many of a loader's first batches have these sizes, and the batches after them."""
    if hasattr(loader, "load_state_dict") and hasattr(getattr(loader, "sampler", None), "batches"):
        present = [len(batch) for batch in loader.sampler.batches()]
        done = len([*takewhile(lambda pair: pair[0] == pair[1], zip(sizes, present, strict=False))])
        if done == len(present):
            return done, iter(())
        loader.load_state_dict({"given": done})
        return done, iter(loader)
    batches = iter(loader)
    for done, size in enumerate(sizes):
        batch = next(batches, None)
        if batch is None:
            return done, batches
        if len(batch[0]) != size:
            return done, chain([batch], batches)
    return len(sizes), batches


def _partial(path: Path, first_image: int | str) -> Path:
    # Named by its first image, not numbered: passes with other batches, or two at the same time, end their parts at
    # other images, and a part must be followed by the part of the next image.
    return path.with_name(f"{path.stem}_from_{first_image}.npz")


def _write(path: Path, scores: ExitScores, key: str, sizes: Sequence[int]) -> bool:
    """Write a score file with its key and the sizes of its batches; on failure warn and return False."""
    try:
        # Runs of equal sizes, because the comment of an archive holds only 64 KiB.
        runs = [[size, len(list(run))] for size, run in groupby(sizes)]
        with written_whole(path) as partial:
            scores.save(partial)
            with ZipFile(partial, "a") as archive:
                note = {"key": key, "arrays": sorted(archive.namelist()), "batches": runs}
                archive.comment = _sealed(canonical_json(note))
    except OSError as error:
        warnings.warn(
            f"The scores cannot be written to {path.parent} ({error.strerror or error}); they will be computed again "
            "next time.",
            stacklevel=3,
        )
        return False
    return True


def _read(path: Path, key: str) -> tuple[ExitScores, list[int]] | None:
    """Return the scores in a file and their batch sizes; None if it is missing, damaged or has another key."""
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
    except Exception:  # bytes that are not a score file can raise anything
        return None
    return scores, sizes


def _sealed(text: str) -> bytes:
    """Return the sha256 of a str followed by the str: an archive has no checksum of its comment."""
    return hashlib.sha256(text.encode()).hexdigest().encode() + text.encode()
