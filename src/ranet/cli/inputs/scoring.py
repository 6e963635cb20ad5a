"""Scoring images with a trained network, or reading their scores from the cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor

import ranet
from ranet.calibration.scores.cache import ScoreCache
from ranet.calibration.scores.exit_scores import ExitScores
from ranet.data.loading.loader import Batch, EpochLoader
from ranet.data.module import ImageData, Split
from ranet.data.unlabelled import unlabelled_loader
from ranet.errors import UserError
from ranet.models.fingerprint import network_fingerprint
from ranet.support.files import default_cache
from ranet.support.progress import Bar
from ranet.training.checkpoints import TrainedNetwork


def score_cache(folder: str | None) -> ScoreCache:
    """Return the cache in this folder; None is the user's own."""
    return ScoreCache(default_cache() if folder is None else Path(folder))


def score(
    trained: TrainedNetwork,
    data: ImageData,
    split: Split,
    kept: ScoreCache | None = None,
    *,
    part: Tensor | None = None,
    temperatures: Sequence[float] | None = None,
    keep_logits: bool = False,
) -> ExitScores:
    """Score a split, "test" or "validation", on the network's device.

    Args:
        trained: the network.
        data: its data.
        split: "test" or "validation".
        kept: cache of the scores; None computes them again.
        part: indices of some images of the split, int64; None is all.
        temperatures: (K,), divisor of the logits of each exit; None is 1.
        keep_logits: whether the scores hold the logits.
    """
    options: dict[str, Any] = {"temperatures": temperatures, "keep_logits": keep_logits}
    with Bar(f"Scoring {split} images") as shown:
        loader = Watched(data.evaluation_loader(split, part), shown)
        if kept is None:
            return ExitScores.collect(trained.network, loader, **options)
        return kept.collect(trained.network, loader, _key(trained, data, split, part), **options)


class Watched:
    """A loader that moves a progress bar.

    Args:
        loader: the loader of the batches.
        shown: called with the number of batches done and their total.
    """

    def __init__(self, loader: EpochLoader, shown: Callable[[int, int], None]) -> None:
        self._loader = loader
        self._shown = shown

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def __iter__(self) -> Iterator[Batch]:
        for batch in self._loader:
            self._shown(self._loader.state_dict()["given"] or len(self._loader), len(self._loader))
            yield batch


def _key(trained: TrainedNetwork, data: ImageData, split: Split, part: Tensor | None) -> dict[str, Any]:
    """Return everything that the scores depend on."""
    return {
        "computed_by": computed_by(),
        "device": next(trained.network.parameters()).device.type,
        "network": network_fingerprint(trained.network),
        "data": data.fingerprint(split, part),
        "files": data.touched(split, part),
    }


@cache
def computed_by() -> dict[str, str]:
    """Return what turns images into scores or features: versions of packages, and a digest of our own source."""
    digest = sha256()
    for package in ("images", "models", "data"):
        for path in sorted((Path(ranet.__file__).parent / package).rglob("*.py")):
            digest.update(path.read_bytes())
    return {"torch": torch.__version__, "torchvision": torchvision.__version__, "source": digest.hexdigest()}


def score_unlabelled(
    trained: TrainedNetwork, data: ImageData, images: str, temperatures: Sequence[float] | None = None
) -> tuple[ExitScores, list[str]]:
    """Score the images of a folder, or one image, as `score` does; there are no labels.

    Returns:
        The scores, and a sentence about each image that cannot be read.

    Raises:
        UserError: if none can be read.
    """
    left_out: list[UserError] = []
    loader = unlabelled_loader(images, data, left_out)
    with Bar("Scoring images") as shown:
        batches = iter(Watched(loader, shown))
        if (first := next(batches, None)) is None:
            raise UserError(f"None of the {len(left_out):,} images in {images} can be read: {left_out[0]}")
        scores = ExitScores.collect(trained.network, chain([first], batches), temperatures=temperatures, labelled=False)
    return scores, list(map(str, left_out))


def save_scores(scores: ExitScores, path: Path, inputs: Sequence[str | None]) -> None:
    """Write scores beside the results, but not over the file that they were read from, which may hold more.

    Args:
        scores: of the images.
        path: where.
        inputs: files that the command has read, or None.
    """
    if path.resolve() not in {Path(name).resolve() for name in inputs if name is not None}:
        scores.save(path)
