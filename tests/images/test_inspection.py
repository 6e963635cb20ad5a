"""What is said of one image, and the hash by which copies are found."""

import io
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.fft import dctn

from ranet.images.inspection import Inspection, inspect_file, inspect_pixels, perceptual_hash
from tests.images.pictures import MODES, noise, write_picture


def scene(seed: int, width: int = 160, height: int = 120) -> Image.Image:
    """Something like a photograph: large soft shapes."""
    return Image.fromarray(noise(8, 6, seed)).resize((width, height), Image.Resampling.BICUBIC)


def apart(one: int | None, other: int | None) -> int:
    assert one is not None
    assert other is not None
    return (one ^ other).bit_count()


@pytest.mark.parametrize(
    ("mode", "rare", "transparent"),
    [
        ("L", "", False),
        ("LA", "", True),
        ("RGB", "", False),
        ("RGB as JPEG", "", False),
        ("RGBA", "", True),
        ("RGB with a transparent colour", "", True),
        ("P", "palette", False),
        ("P in a GIF", "palette", True),
        ("I;16", "16-bit", False),
        ("I;16B as TIFF", "16-bit", False),
        ("CMYK", "CMYK", False),
        ("LAB", "LAB", False),
    ],
)
def test_modes(tmp_path: Path, mode: str, rare: str, transparent: bool) -> None:
    assert mode in MODES
    seen = inspect_file(write_picture(tmp_path, mode, 9, 7))
    assert (seen.refused, seen.width, seen.height) == (None, 9, 7)
    assert (seen.mode, seen.transparent, seen.orientation) == (rare, transparent, 1)


def test_orientation_and_size_are_those_of_the_file(tmp_path: Path) -> None:
    seen = inspect_file(write_picture(tmp_path, "RGB as JPEG", 640, 480, orientation=6))
    assert (seen.orientation, seen.width, seen.height) == (6, 640, 480)


def test_what_cannot_be_read(tmp_path: Path) -> None:
    path = write_picture(tmp_path, "RGB as JPEG", 64, 64)
    path.write_bytes(path.read_bytes()[:-200])
    (tmp_path / "float.tiff").write_bytes(b"")
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "float.tiff")
    assert "truncated" in str(inspect_file(path).refused)
    assert inspect_file(tmp_path / "float.tiff") == Inspection(
        "holds floating-point values, whose range is not known; save it with 8 or 16 bits"
    )


def test_the_content_is_that_of_the_whole_file(tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for path, seed in zip(paths, (0, 0, 1), strict=True):
        scene(seed).save(path)
    one, same, other = (inspect_file(path).content for path in paths)
    assert one == same != other


def test_the_hash_is_the_slowest_waves_above_their_median() -> None:
    image = scene(3, 32, 32).convert("L")
    waves = dctn(np.asarray(image, dtype=np.float64), type=2)[:8, :8].ravel()
    expected = "".join("1" if wave > np.median(waves[1:]) else "0" for wave in waves)
    assert perceptual_hash(image) == int(expected, 2)


def test_copies_share_nearly_all_bits_and_others_do_not() -> None:
    scenes = [scene(seed) for seed in range(12)]
    hashes = [perceptual_hash(each) for each in scenes]
    for each, own in zip(scenes, hashes, strict=True):
        compressed = io.BytesIO()
        each.save(compressed, "JPEG", quality=60)
        assert apart(perceptual_hash(Image.open(compressed)), own) <= 3
        assert apart(perceptual_hash(each.resize((80, 60), Image.Resampling.BILINEAR)), own) <= 3
    assert min(apart(one, other) for one, other in combinations(hashes, 2)) > 10


def test_one_colour_looks_like_nothing() -> None:
    assert perceptual_hash(Image.new("RGB", (50, 50), (7, 99, 3))) is None
    assert inspect_pixels(np.full((8, 8, 3), 9, np.uint8)).looks is None


def test_pixels_in_memory_and_in_a_file_look_the_same(tmp_path: Path) -> None:
    scene(5).save(tmp_path / "a.png")
    seen = inspect_pixels(np.asarray(scene(5)))
    assert (seen.width, seen.height) == (160, 120)
    assert seen.looks == inspect_file(tmp_path / "a.png").looks
