"""Problems of a data set, found in one pass over all images before training."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ranet.data.checks.duplicates import look_alikes, same_content
from ranet.data.module import ImageData
from ranet.data.sets.sources import TensorSet, image_files, list_classes
from ranet.data.sets.split_reader import SPLITS, Split
from ranet.images.inspection import Inspection, inspect_file, inspect_pixels
from ranet.images.listing import describe_skipped, kind_of
from ranet.images.many import for_each

#: Findings to repair, with their names in sentences: training would stop, or accuracies would be wrong.
TO_MEND = {
    "unreadable": "unreadable images",
    "empty class": "empty classes",
    "missing class": "missing classes",
    "in another split": "images that are in another split, too",
}
#: Findings about single images that do not prevent training.
ODD = ("16-bit", "palette", "CMYK", "other mode", "turned by EXIF", "transparent", "copy", "looks the same")
FEW = 10  # a class of the first split with fewer images is a finding
UNEVEN = 10  # ratio of the largest class to the smallest that is a finding


class Finding(NamedTuple):
    """A problem of an image or a class."""

    path: str  # path of the image, or of the folder of a class; relative to the data set
    split: str  # folder of the image or class, or the split for data without files
    class_name: str  # name of the class
    finding: str  # one of `TO_MEND`, `ODD`, "few images", "uneven classes" and "numbers sorted as text"
    detail: str  # details of the finding


@dataclass(frozen=True)
class Part:
    """One split of a data set as stored."""

    name: str  # name of the split, such as "train"
    classes: Sequence[str]  # names of its classes, including those without images
    names: Sequence[str]  # path, or another name, of each image, relative to the data set
    labels: Sequence[int]  # class of each image, as an index into the classes
    inspect: Callable[[int], Inspection]  # function that inspects the image of an index
    skipped: Counter[str] = field(default_factory=Counter)  # number of skipped files of each kind

    @property
    def counts(self) -> dict[str, int]:
        """The number of images of each class."""
        counted = Counter(self.labels)
        return {name: counted[label] for label, name in enumerate(self.classes)}

    def where(self, index: int) -> tuple[str, str, str]:
        """Return path, split and class of an image."""
        return self.names[index], self.name, self.classes[self.labels[index]]


@dataclass(frozen=True)
class Health:
    """The result of checking a data set."""

    findings: list[Finding]  # all findings, by split
    # A table with a name and a cell for each split in each row; the first row is the heading.
    rows: list[tuple[str, ...]]

    @property
    def to_mend(self) -> Counter[str]:
        """The number of findings of each kind that must be repaired."""
        return Counter(each.finding for each in self.findings if each.finding in TO_MEND)


def parts_of(data: ImageData) -> list[Part]:
    """Return the splits of a data set as stored; those of images in files are its folders train, val and test.

    Problems are not refused here, because `examine` reports them.

    Raises:
        UserError: if there is no training folder or no class in it, or a folder cannot be read.
    """
    if data.facts.in_memory:
        return [_in_memory(data, split) for split in SPLITS]
    folders = [data.folder / name for name in ("train", "val", "test")]
    return [_in_files(folder) for folder in folders if folder.is_dir() or folder.name != "test"]


def examine(parts: Sequence[Part]) -> Health:
    """Check all images of a data set, on all cores, and its classes; the training split is the first part."""
    images = [(part, index) for part in parts for index in range(len(part.names))]
    results = for_each(lambda each: each[0].inspect(each[1]), images, "Looking at images")
    seen = [list(islice(results, len(part.names))) for part in parts]
    copies = list(_copies([part.where(index) for part, index in images], [each for own in seen for each in own]))
    findings: list[Finding] = []
    for part, own in zip(parts, seen, strict=True):
        findings += _about_classes(part, parts)
        findings += [Finding(*part.where(i), *odd) for i, inspection in enumerate(own) for odd in _oddities(inspection)]
        findings += [each for each in copies if each.split == part.name]
    return Health(findings, _rows(parts, seen, findings))


def numbers_sorted_as_text(classes: Sequence[str]) -> str | None:
    """Return a phrase if the class names are numbers that sort differently as strings; else None.

    Example:
        >>> numbers_sorted_as_text(["1", "10", "2"])
        'class names are numbers and are sorted as text: label 1 is 10'
        >>> numbers_sorted_as_text(["01", "02", "10"])
    """
    split = [re.fullmatch(r"(\D*)(\d+)(\D*)", name) for name in classes]
    around = {(each[1], each[3]) for each in split if each}
    if len(classes) < 2 or not all(split) or len(around) > 1:
        return None
    by_number = sorted(classes, key=lambda name: int(re.sub(r"\D", "", name)))
    wrong = next((k for k, (one, other) in enumerate(zip(classes, by_number, strict=True)) if one != other), None)
    if wrong is None:
        return None
    return f"class names are numbers and are sorted as text: label {wrong} is {classes[wrong]}"


def _about_classes(part: Part, parts: Sequence[Part]) -> Iterator[Finding]:
    counts, trains = part.counts, part is parts[0]
    for name in sorted({name for each in parts for name in each.classes}):
        where = f"{part.name}/{name}", part.name, name
        if name not in counts:
            other = next(each.name for each in parts if name in each.classes)
            yield Finding(*where, "missing class", f"the class is only in {other}, or has another name here")
        elif not counts[name]:
            yield Finding(*where, "empty class", "no images")
        elif trains and counts[name] < FEW:
            yield Finding(*where, "few images", f"{counts[name]} images, fewer than {FEW}")
    if trains and counts:
        most, least = (choose(counts, key=lambda name: counts[name]) for choose in (max, min))
        if counts[least] and counts[most] >= UNEVEN * counts[least]:
            detail = f"{counts[most]:,} images of {most}, {counts[least]:,} of {least}"
            yield Finding(part.name, part.name, "", "uneven classes", detail)
        if said := numbers_sorted_as_text(part.classes):
            yield Finding(part.name, part.name, "", "numbers sorted as text", said)


def _oddities(seen: Inspection) -> Iterator[tuple[str, str]]:
    """Yield finding and detail for each problem of an image."""
    if seen.refused is not None:
        yield "unreadable", seen.refused
        return
    if seen.mode:
        yield (seen.mode, "") if seen.mode in ODD else ("other mode", seen.mode)
    if seen.orientation in range(2, 9):
        yield "turned by EXIF", f"orientation {seen.orientation}"
    if seen.transparent:
        yield "transparent", "seen on white"


def _copies(named: Sequence[tuple[str, str, str]], seen: Sequence[Inspection]) -> Iterator[Finding]:
    """Yield copies with the same content, and images that look like an earlier one."""
    looks = [each.looks for each in seen]
    for group in same_content(each.content for each in seen):
        for place, later in enumerate(group[1:], 1):
            looks[later] = None
            elsewhere = [earlier for earlier in group[:place] if named[earlier][1] != named[later][1]]
            found = "in another split" if elsewhere else "copy"
            yield Finding(*named[later], found, _of(named[(elsewhere or group)[0]], named[later]))
    for later, earlier in look_alikes(looks).items():
        yield Finding(*named[later], "looks the same", _of(named[earlier], named[later]))


def _of(original: tuple[str, str, str], copy: tuple[str, str, str]) -> str:
    other = f", which is of class {original[2]}" if original[2] != copy[2] else ""
    return f"as {original[0]}{other}"


def _rows(
    parts: Sequence[Part], seen: Sequence[Sequence[Inspection]], findings: Sequence[Finding]
) -> list[tuple[str, ...]]:
    found = Counter((each.split, each.finding) for each in findings)
    columns = []
    for part, own in zip(parts, seen, strict=True):
        counts = [
            len(part.names),
            len(part.classes),
            *(choose(part.counts.values(), default=0) for choose in (max, min)),
        ]
        sides = [min(each.width, each.height) for each in own if each.refused is None]
        short = [f"{int(np.percentile(sides, percent)):,}" if sides else "" for percent in (0, 50, 100)]
        kinds = [f"{found[part.name, finding]:,}" for finding in (*TO_MEND, *ODD)]
        columns.append([part.name, *(f"{count:,}" for count in counts), *short, *kinds, describe_skipped(part.skipped)])
    names = ["", "images", "classes", "largest class", "smallest class"]
    names += [f"{which} short side" for which in ("smallest", "median", "largest")]
    rows = list(zip([*names, *TO_MEND, *ODD, "skipped files"], *columns, strict=True))
    return rows if any(part.skipped for part in parts) else rows[:-1]


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
