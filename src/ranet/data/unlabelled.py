"""Images without labels, transformed like the test images of a data set."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch

from ranet.data.loading.sampling import EpochSampler
from ranet.data.loading.worker_loader import WorkerLoader, default_workers
from ranet.data.module import ImageData
from ranet.data.sets.sources import FileSet, image_files, say_skipped
from ranet.errors import UserError
from ranet.images.listing import no_images


def list_unlabelled(path: str | Path) -> FileSet:
    """List one image file, or all image files in a folder and its subfolders, sorted by path; every label is 0.

    Raises:
        UserError: if the path does not exist, the folder has no images, or a subfolder cannot be read.
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
        raise UserError(f"There is no folder and no image {path.absolute()}; give the path of the images.")
    return FileSet(folder, np.array(names), torch.zeros(len(names), dtype=torch.int64))


def unlabelled_loader(path: str | Path, data: ImageData, left_out: list[UserError] | None = None) -> WorkerLoader:
    """Return batches of the images of `list_unlabelled`, of any size, with the evaluation transform of a data set.

    The labels have no meaning, and the files of the data set are not read. What is left out is as for `WorkerLoader`.
    """
    files = list_unlabelled(path)
    sampler = EpochSampler(len(files), data.eval_batch_size, seed=None)
    workers = default_workers() if data.num_workers is None else data.num_workers
    return WorkerLoader(files, data.facts, sampler, torch.device("cpu"), workers, left_out=left_out)
