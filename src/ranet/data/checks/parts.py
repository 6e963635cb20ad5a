"""The splits of a data set as stored, for `health`; problems are not refused here, because `health` reports them."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np

from ranet.data.checks.health import Part
from ranet.data.module import ImageData
from ranet.data.sets.sources import TensorSet, image_files, list_classes
from ranet.data.sets.split_reader import SPLITS, Split
from ranet.images.inspection import inspect_file, inspect_pixels
from ranet.images.listing import kind_of

_FOLDERS = ("train", "val", "test")


def parts_of(data: ImageData) -> list[Part]:
    """Return the splits of a data set; those of images in files are its folders train, val and test.

    Raises:
        UserError: if there is no training folder or no class in it, or a folder cannot be read.
    """
    if data.facts.in_memory:
        return [_in_memory(data, split) for split in SPLITS]
    folders = [data.folder / name for name in _FOLDERS]
    return [_in_files(folder) for folder in folders if folder.is_dir() or folder.name != "test"]


def _in_files(folder: Path) -> Part:
    classes = list_classes(folder)
    names: list[str] = []
    labels: list[int] = []
    skipped = Counter(kind_of(entry.name) for entry in folder.iterdir() if entry.name not in classes)
    for label, name in enumerate(classes):
        files, passed_over = image_files(folder, name)
        names += [f"{folder.name}/{os.fsdecode(file)}" for file in files]
        labels += [label] * len(files)
        skipped += passed_over
    return Part(folder.name, classes, names, labels, lambda index: inspect_file(folder.parent / names[index]), skipped)


def _in_memory(data: ImageData, split: Split) -> Part:
    samples = data.samples(split)
    assert isinstance(samples, TensorSet)
    images = samples.images.permute(0, 2, 3, 1)
    return Part(
        split,
        data.class_names,
        [f"{split}/{index}" for index in range(len(samples))],
        samples.labels.tolist(),
        lambda index: inspect_pixels(np.ascontiguousarray(images[index].squeeze(-1).numpy())),
    )
