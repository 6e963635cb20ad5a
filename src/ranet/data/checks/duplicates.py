"""Duplicate images: with the same content, or nearly the same look."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from ranet.data.sets.sources import FileSet
from ranet.images.inspection import digest
from ranet.images.many import for_each

#: The most of the 64 bits of `ranet.images.inspection.perceptual_hash` in which images that look the same differ.
MOST_BITS = 3
_BITS, _BANDS = 64, MOST_BITS + 1  # with this number of bands, at least one is the same in both hashes
_NEIGHBOURS = 64  # hashes with the same band that each is compared with


def same_content(contents: Iterable[bytes]) -> list[list[int]]:
    """Return the groups of at least two indices whose digests are the same and not empty, each group ascending."""
    groups: dict[bytes, list[int]] = defaultdict(list)
    for index, content in enumerate(contents):
        if content:
            groups[content].append(index)
    return [group for group in groups.values() if len(group) > 1]


def look_alikes(hashes: Sequence[int | None]) -> dict[int, int]:
    """Return a dict from the index of an image to the first earlier image that looks nearly the same.

    The hashes are results of `perceptual_hash`, or None to leave an image out. Those that differ in at most 3 bits
    agree in at least one of 4 bands of 16 bits. So only hashes that share a band are compared, each with the next 64 in
    order, which limits the time.
    """
    index = np.array([i for i, each in enumerate(hashes) if each is not None], dtype=np.int64)
    if not len(index):
        return {}
    known = np.array([each for each in hashes if each is not None], dtype=np.uint64)
    different, first, which = np.unique(known, return_index=True, return_inverse=True)
    earlier = first.copy()  # the first image that looks like each distinct hash
    width = _BITS // _BANDS
    for turn in range(0, _BITS, width):
        turned = (different << np.uint64(turn)) | (different >> np.uint64((_BITS - turn) % _BITS))
        order = np.argsort(turned)
        turned = turned[order]
        band = turned >> np.uint64(_BITS - width)
        for step in range(1, _NEIGHBOURS + 1):
            near = np.flatnonzero(band[step:] == band[:-step])
            if not len(near):
                break
            near = near[np.bitwise_count(turned[near] ^ turned[near + step]) <= MOST_BITS]
            one, other = order[near], order[near + step]
            np.minimum.at(earlier, one, first[other])
            np.minimum.at(earlier, other, first[one])
    found = earlier[which.ravel()]
    later = np.flatnonzero(found < np.arange(len(index)))
    return dict(zip(index[later].tolist(), index[found[later]].tolist(), strict=True))


def copies_between(splits: Sequence[FileSet]) -> list[tuple[Path, Path]]:
    """Return pairs of files of different splits with the same content; only files of the same length are read."""
    paths = [(number, files.path(index)) for number, files in enumerate(splits) for index in range(len(files))]
    lengths = [path.stat().st_size for _, path in paths]
    holders: dict[int, set[int]] = defaultdict(set)
    for length, (number, _) in zip(lengths, paths, strict=True):
        holders[length].add(number)
    numbered = [each for length, each in zip(lengths, paths, strict=True) if len(holders[length]) > 1]
    digests = for_each(lambda each: digest(each[1].read_bytes()), numbered, "Comparing files")
    pairs = []
    for group in same_content(digests):
        (begin, first), *others = [numbered[index] for index in group]
        pairs += [(first, path) for number, path in others if number != begin]
    return pairs
