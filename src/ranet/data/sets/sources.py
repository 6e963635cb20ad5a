"""Sets of images, in memory or in files, and where they come from: CIFAR's batch files and folders of classes."""

from __future__ import annotations

import hashlib
import logging
import os
import pickle
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_lightning.utilities.rank_zero import rank_zero_only
from torch import Tensor
from torchvision.datasets import CIFAR10, CIFAR100

from ranet.errors import UserError
from ranet.images.listing import describe_skipped, find_images, is_passed_over, kind_of, no_images
from ranet.images.readable import find_unreadable

OnBad = Literal["stop", "skip"]
ON_BAD: tuple[OnBad, ...] = get_args(OnBad)
_NAMED = 10  # files that cannot be read
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TensorSet:
    """Images of one size in memory."""

    images: Tensor  # uint8 (N, C, H, W)
    labels: Tensor  # int64 (N,)
    sizes: Tensor | None = None  # int64 (N,), the size in pixels of the object in each image, if known

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, indices: Tensor) -> TensorSet:
        """Return the samples at ``indices``, copied."""
        sizes = None if self.sizes is None else self.sizes[indices]
        return TensorSet(self.images[indices], self.labels[indices], sizes)

    def digest(self) -> str:
        """Return the sha256 of pixels and labels."""
        digest = hashlib.sha256(self.labels.numpy().tobytes())
        digest.update(self.images.contiguous().numpy().data)
        return digest.hexdigest()

    def touched(self) -> str:
        """Return an empty str: the digest covers all content."""
        return ""


@dataclass(frozen=True)
class FileSet:
    """Images in files, not yet read."""

    folder: Path  # the folder that holds one folder per class
    # Relative to the folder, encoded by the file system's rules; one array, because workers copy every str they use.
    paths: NDArray[np.bytes_]
    labels: Tensor  # int64 (N,)

    def __len__(self) -> int:
        return len(self.labels)

    def path(self, index: int) -> Path:
        """Return the file of one sample."""
        return self.folder / os.fsdecode(self.paths[index])

    def names(self) -> tuple[str, ...]:
        """Return the paths relative to ``folder``, which identify the samples."""
        return tuple(map(os.fsdecode, self.paths.tolist()))

    def subset(self, indices: Tensor) -> FileSet:
        """Return the samples at ``indices``."""
        return FileSet(self.folder, self.paths[indices.numpy()], self.labels[indices])

    def digest(self) -> str:
        """Return the sha256 of relative paths, file lengths and labels; it does not depend on the folder."""
        digest = hashlib.sha256(self.labels.numpy().tobytes())
        for index, path in enumerate(self.paths.tolist()):
            digest.update(b"%s\0%d\0" % (path, self.path(index).stat().st_size))
        return digest.hexdigest()

    def touched(self) -> str:
        """Return the sha256 of the files' modification times, which shows new content of the same length."""
        digest = hashlib.sha256()
        for index in range(len(self)):
            digest.update(b"%d\0" % self.path(index).stat().st_mtime_ns)
        return digest.hexdigest()


Samples = TensorSet | FileSet


def all_but(indices: Tensor, count: int) -> Tensor:
    """Return the other indices of ``count`` samples, ascending."""
    stays = torch.ones(count, dtype=torch.bool)
    stays[indices] = False
    return stays.nonzero().flatten()


_CIFAR = {"cifar10": CIFAR10, "cifar100": CIFAR100}


def download_cifar(name: str, root: Path) -> None:
    """Download and unpack the official archive of ``cifar10`` or ``cifar100`` into ``root``, if it is missing."""
    try:
        _CIFAR[name](root, download=True)
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"Downloading {name} to {root.absolute()} failed ({error}); check the network, or put "
            f"{_CIFAR[name].base_folder} there by hand."
        ) from error


def load_cifar(name: str, root: Path) -> tuple[TensorSet, TensorSet]:
    """Load CIFAR-10 or CIFAR-100 (Krizhevsky, 2009) in ``root``: 50,000 training and 10,000 test images.

    Raises:
        UserError: if files are missing or are not the official ones.
    """
    kind = _CIFAR[name]
    folder = root / kind.base_folder
    if not folder.is_dir():
        raise UserError(
            f"There is no {name} at {folder.absolute()}; set data.root or RANET_DATA to the folder that holds "
            f"{kind.base_folder}, or fetch it with data.download=true."
        )
    return _read_cifar(folder, kind.train_list), _read_cifar(folder, kind.test_list)


def _read_cifar(folder: Path, files: list[list[str]]) -> TensorSet:
    images, labels = [], []
    for name, md5 in files:
        path = folder / name
        content = path.read_bytes() if path.is_file() else b""
        if hashlib.md5(content, usedforsecurity=False).hexdigest() != md5:
            state = "is missing" if not content else "is damaged (its md5 is wrong)"
            raise UserError(f"{path.absolute()} {state}; fetch the data set anew with data.download=true.")
        # Unpickling can run code, but the md5 shows that this is the official file.
        batch = pickle.loads(content, encoding="latin1")
        images.append(torch.from_numpy(batch["data"]).view(-1, 3, 32, 32))
        labels += batch["labels"] if "labels" in batch else batch["fine_labels"]
    return TensorSet(torch.cat(images), torch.tensor(labels))


def list_classes(folder: Path) -> list[str]:
    """Return the classes of a folder: the names of its subfolders, sorted.

    Raises:
        UserError: if the folder is missing or has no subfolders.
    """
    if not folder.is_dir():
        raise UserError(
            f"There is no folder {folder.absolute()}; set data.root (or RANET_DATA) so that it holds train/ and val/ "
            "with one folder per class."
        )
    classes = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not is_passed_over(entry.name))
    if not classes:
        raise UserError(f"{folder.absolute()} holds no folders; it must hold one folder of images per class.")
    return classes


def list_images(folder: Path, classes: list[str]) -> FileSet:
    """Return the image files of a folder such as ``root/train``, sorted by class and by path.

    It must have these classes, whose order gives the labels.

    Raises:
        UserError: if the folder is missing, has other classes, or has a class without images.
    """
    here = list_classes(folder)
    if set(here) != set(classes):
        odd = sorted(set(here) ^ set(classes))
        raise UserError(
            f"{folder.absolute()} and the train folder next to it must have the same classes, but differ in "
            f"{len(odd)}: {', '.join(odd[:5])}{', ...' if len(odd) > 5 else ''}."
        )
    paths: list[bytes] = []
    labels: list[int] = []
    skipped = Counter(kind_of(entry.name) for entry in folder.iterdir() if entry.name not in here)
    for name in here:
        files, passed_over = image_files(folder, name)
        if not files:
            raise UserError(f"{no_images(folder / name, passed_over)} Add images, or remove the class folder.")
        paths += files
        labels += [classes.index(name)] * len(files)
        skipped += passed_over
    say_skipped(folder, skipped)
    return FileSet(folder, np.array(paths), torch.tensor(labels))


def say_skipped(folder: Path, skipped: Counter[str]) -> None:
    """Log the files that were skipped below a folder, if there are any."""
    if skipped:
        rank_zero_only(_log.info)("Skipped in %s: %s.", folder, describe_skipped(skipped))


def image_files(folder: Path, name: str = ".") -> tuple[list[bytes], Counter[str]]:
    """Return all image files below ``folder / name``, relative to ``folder``, sorted, and the counts of skipped files.

    Raises:
        UserError: if a folder cannot be read, because its images would be missing.
    """
    found = find_images(folder / name)
    if found.unreadable:
        path, reason = found.unreadable[0]
        raise UserError(f"The folder {Path(path).absolute()} cannot be read ({reason}); make it readable or remove it.")
    return [os.fsencode(Path(name, file).as_posix()) for file in found.files], found.skipped


def readable(files: FileSet, on_bad: OnBad) -> FileSet:
    """Return the files that can be read as images; log how many others are left out.

    Raises:
        UserError: that names the others, if ``on_bad`` is "stop" or none can be read.
    """
    names = files.names()
    refused = find_unreadable(files.folder, names)
    if not refused:
        return files
    count = f"{len(refused):,} of {len(files):,} images in {files.folder} cannot be used"
    if on_bad == "stop" or len(refused) == len(files):
        lines = [f"  {names[index]} {reason}" for index, reason in [*refused.items()][:_NAMED]]
        if len(refused) > _NAMED:
            lines.append(f"  and {len(refused) - _NAMED:,} more")
        what_to_do = "Mend or remove them" + (", or leave them out with data.on_bad=skip." if on_bad == "stop" else ".")
        raise UserError("\n".join([f"{count}:", *lines, what_to_do]))
    first = next(iter(refused))
    rank_zero_only(_log.info)("%s and are left out, such as %s, which %s.", count, names[first], refused[first])
    return files.subset(all_but(torch.tensor(list(refused)), len(files)))
