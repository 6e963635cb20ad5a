"""Copies are those that a comparison of all pairs finds."""

from pathlib import Path

import numpy as np
import pytest

from ranet.data.checks.duplicates import MOST_BITS, copies_between, look_alikes, same_content
from ranet.data.sets.sources import list_images


def by_comparing_all(hashes: list[int | None]) -> dict[int, int]:
    """The first earlier image within the distance, for each that has one."""
    found = {}
    for later, one in enumerate(hashes):
        for earlier, other in enumerate(hashes[:later]):
            if one is not None and other is not None and (one ^ other).bit_count() <= MOST_BITS:
                found[later] = earlier
                break
    return found


@pytest.mark.parametrize("seed", range(5))
def test_look_alikes_are_those_of_comparing_all(seed: int) -> None:
    """Random hashes, and copies of some with 0 to 6 bits changed, in any band."""
    rng = np.random.default_rng(seed)
    hashes: list[int | None] = [int(each) for each in rng.integers(2**64, size=60, dtype=np.uint64)]
    for changed in (0, 1, 2, 3, 4, 5, 6) * 8:
        copy = hashes[rng.integers(60)]
        assert copy is not None
        for bit in rng.choice(64, changed, replace=False):
            copy ^= 1 << int(bit)
        hashes.append(copy)
    hashes += [None, None, 0, 2**64 - 1, 7]
    hashes = [hashes[i] for i in rng.permutation(len(hashes))]
    expected = by_comparing_all(hashes)
    assert len(expected) > 20
    assert look_alikes(hashes) == expected


def test_nothing_to_compare() -> None:
    assert look_alikes([]) == {}
    assert look_alikes([None, None]) == {}
    assert look_alikes([5, None]) == {}


def test_many_equal_hashes_do_not_hide_others() -> None:
    hashes: list[int | None] = [1 << 40] * 3000 + [(1 << 40) + 1]
    assert look_alikes(hashes) == dict.fromkeys(range(1, 3001), 0)


def test_same_content() -> None:
    assert same_content([b"a", b"b", b"a", b"", b"", b"b", b"a", b"c"]) == [[0, 2, 6], [1, 5]]


def test_copies_between_splits(folder: Path) -> None:
    """A copy in the other class counts, a copy in the same split does not, nor a file of the same length."""
    train, val = folder / "train", folder / "val"
    content = (train / "cat" / "0.png").read_bytes()
    (val / "dog" / "copy.png").write_bytes(content)
    (train / "cat" / "copy.png").write_bytes(content)
    (val / "cat" / "like.png").write_bytes(content[:-1] + b"?")
    splits = [list_images(each, ["cat", "dog"]) for each in (train, val)]
    assert copies_between(splits) == [(train / "cat" / "0.png", val / "dog" / "copy.png")]
    assert copies_between([splits[0], splits[0].subset(splits[0].labels[:0])]) == []
