"""Facts about the splits for the user to know before training: numbers of images, and problems."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ranet.data.checks.duplicates import copies_between
from ranet.data.checks.health import numbers_sorted_as_text
from ranet.data.module import ImageData
from ranet.data.sets.sources import FileSet
from ranet.data.sets.split_reader import SPLITS

_MOST_CLASSES = 20  # with more, a line for each class would fill the screen
_MOST_FILES = 20_000  # with more, only ranet check looks for copies


def split_table(data: ImageData) -> list[tuple[str, ...]]:
    """Return rows (class, training, validation, test images) with a heading first and the sums last.

    With more than 20 classes, the rows between are only the smallest and the largest class of each split.
    """
    counts = {split: data.images_per_class(split) for split in SPLITS}
    rows: list[tuple[str, ...]] = [("class", *SPLITS)]
    if data.num_classes <= _MOST_CLASSES:
        rows += [(name, *(f"{counts[split][k]:,}" for split in SPLITS)) for k, name in enumerate(data.class_names)]
    else:
        for which, of in (("smallest class", torch.amin), ("largest class", torch.amax)):
            rows.append((which, *(f"{int(of(counts[split])):,}" for split in SPLITS)))
    return [*rows, ("all", *(f"{int(counts[split].sum()):,}" for split in SPLITS))]


def split_notices(data: ImageData) -> list[str]:
    """Return a sentence about each problem of the splits that harms training or calibration."""
    train, validation = (data.images_per_class(split) for split in ("train", "validation"))
    notices = []
    if data.num_classes == 1:
        notices.append(f"There is only one class ({data.class_names[0]}), so there is nothing to classify.")
    if untrained := [name for name, count in zip(data.class_names, train.tolist(), strict=True) if not count]:
        it = "it" if len(untrained) == 1 else "them"
        notices.append(
            f"{_classes(untrained)} no training images, so the network cannot learn {it}: add images, or raise "
            "data.train_limit."
        )
    if not validation.sum():
        notices.append(
            "No images are held out for validation: the last checkpoint is kept instead of the best, and no policy can "
            "be calibrated; raise data.validation_size to change this."
        )
    elif unseen := [name for name, count in zip(data.class_names, validation.tolist(), strict=True) if not count]:
        notices.append(
            f"{_classes(unseen)} no validation images; a larger data.validation_size holds out some of each."
        )
    if said := numbers_sorted_as_text(data.class_names):
        notices.append(f"The {said}; where the order matters, write them with as many digits each (01, 02, ...).")
    return notices + _copies(data)


def _copies(data: ImageData) -> list[str]:
    """Return a notice if files of different splits have the same content, if there are few enough to compare."""
    splits = [samples for split in SPLITS if isinstance(samples := data.samples(split), FileSet)]
    if not 0 < sum(map(len, splits)) <= _MOST_FILES or not (copies := copies_between(splits)):
        return []
    one, other = (path.relative_to(data.folder) for path in copies[0])
    return [
        f"Images with the same content are in two splits ({len(copies):,}), such as {one} and {other}, so accuracies "
        f"are too high: ranet check data={data.name} data.root={data.root} names them."
    ]


def _classes(names: Sequence[str]) -> str:
    if len(names) == 1:
        return f"The class {names[0]} has"
    more = ", ..." if len(names) > 5 else ""
    return f"{len(names)} classes ({', '.join(names[:5])}{more}) have"
