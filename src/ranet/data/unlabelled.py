"""Images that nobody has labelled, seen as the network sees the test images of its data set."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch

from ranet.data.loading.sampling import EpochSampler
from ranet.data.loading.transforms import any_size_geometry
from ranet.data.loading.worker_loader import WorkerLoader, default_workers
from ranet.data.module import ImageData
from ranet.data.sets.sources import FileSet, image_files, say_skipped
from ranet.errors import UserError
from ranet.images.listing import no_images


def list_unlabelled(path: str | Path) -> FileSet:
    """One image file, or all image files in a folder and the folders in it, sorted by path; every label is 0.

    Raises:
        UserError: if there is nothing at the path, no image in the folder, or a folder in it that cannot be read.
    """
    path = Path(path)
    if path.is_dir():
        folder = path
        names, skipped = image_files(path)
        if not names:
            raise UserError(no_images(path, skipped))
        say_skipped(path, skipped)
    elif path.exists():
        folder, names = path.parent, [os.fsencode(path.name)]
    else:
        raise UserError(f"There is no folder and no image {path.absolute()}; say where the images lie.")
    return FileSet(folder, np.array(names), torch.zeros(len(names), dtype=torch.int64))


def unlabelled_loader(path: str | Path, data: ImageData, left_out: list[UserError] | None = None) -> WorkerLoader:
    """Batches of the images at a path, through the evaluation transform and normalisation of a data set.

    Images may have any size: where the data set's own are all of one size and evaluated as stored (CIFAR, digits),
    others are resized by their short side and cropped to the central square; see `any_size_geometry`.

    Args:
        path: a folder, searched with all folders in it, or one image.
        data: the data set that the network was trained on; its own files are not looked at.
        left_out: where the errors of images that cannot be read go, which are then left out; None raises the first.

    Returns:
        Batches (images float32 (B, 3, H, W), labels int64 (B,) of zeros that mean nothing), in the order of
        `list_unlabelled`.

    Raises:
        UserError: as for `list_unlabelled`.
    """
    files = list_unlabelled(path)
    sampler = EpochSampler(len(files), data.eval_batch_size, seed=None)
    workers = default_workers() if data.num_workers is None else data.num_workers
    geometry = any_size_geometry(data.facts, data.image_size)
    return WorkerLoader(
        *(files, data.facts, data.image_size, sampler, torch.device("cpu"), workers),
        geometry=geometry,
        left_out=left_out,
    )
