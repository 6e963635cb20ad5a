"""Image folders, small and real."""

import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="session")
def imagenette(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of Imagenette with twelve training and four validation images each: real WebP."""
    root = tmp_path_factory.mktemp("imagenette")
    wanted, kept = {"train": 12, "val": 4}, {}
    with tarfile.open(shared / "data" / "imagenette-160.tar") as tar:
        for member in tar:
            parts = Path(member.name).parts
            if not member.isfile() or len(parts) != 4:
                continue
            split, name = parts[1:3]
            kept.setdefault(split, {}).setdefault(name, 0)
            if kept[split][name] < wanted[split] and sorted(kept[split]).index(name) < 3:
                kept[split][name] += 1
                tar.extract(member, root, filter="data")
    return root / "imagenette-160"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An image folder of two classes with six training and three validation images each, 40 by 30 pixels."""
    random = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 3)):
        for name in ("cat", "dog"):
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = random.integers(0, 256, (30, 40, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / split / name / f"{i}.png")
    return tmp_path
