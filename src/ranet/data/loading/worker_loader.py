"""Images that worker processes read and transform with torchvision."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from ranet.data.loading.erasing import Erasing
from ranet.data.loading.loader import Batch, EpochLoader
from ranet.data.loading.sampling import EpochSampler
from ranet.data.loading.transforms import EvaluationGeometry, Geometry, Normalise, training_geometry
from ranet.data.sets.catalogue import Facts
from ranet.data.sets.sources import FileSet, TensorSet
from ranet.errors import UserError
from ranet.images.decoding import ImageError, read_image
from ranet.support.hardware import available_cores

# A sample and the seed of its augmentation (0 where nothing is random).
Draw = tuple[int, int]


def default_workers(processes: int = 1) -> int:
    """Return one worker for each core that this process may use, divided by the training processes; 8 at most."""
    return min(8, max(1, available_cores() // processes))


class Transformed(Dataset[tuple[Tensor, int] | UserError]):
    """Samples by (index, seed), as uint8 (C, H, W) and label.

    The random transform of a sample depends only on its seed, not on the worker or on earlier draws. The global random
    state does not change.
    """

    def __init__(self, samples: TensorSet | FileSet, geometry: Geometry) -> None:
        self.samples = samples
        self.geometry = geometry

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, draw: Draw) -> tuple[Tensor, int] | UserError:
        """Return one sample, or the error of an image that cannot be read, to be raised outside the worker."""
        index, seed = draw
        try:
            return self.image(index, seed), int(self.samples.labels[index])
        except UserError as error:
            return error

    def image(self, index: int, seed: int = 0) -> Tensor:
        """Return one transformed image, uint8 (C, H, W); raise a UserError if the file cannot be read as an image."""
        stored = self.samples.images[index] if isinstance(self.samples, TensorSet) else _open(self.samples.path(index))
        with torch.random.fork_rng(devices=[]):
            # Not torch.manual_seed, which also sets the seeds of the GPUs.
            torch.default_generator.manual_seed(seed)
            return self.geometry(stored)


def _open(path: Path) -> Image.Image:
    try:
        return read_image(path)
    except ImageError as error:
        raise UserError(f"{path} {error.what}; replace or remove it.") from error


def _collate(items: list[tuple[Tensor, int] | UserError]) -> tuple[list[Tensor], list[UserError]]:
    """Return the images and labels of a batch, if there are any, and the errors of the images that cannot be read.

    Errors are returned, because an error raised in a worker reaches the user as a traceback of several pages.
    """
    errors = [item for item in items if isinstance(item, UserError)]
    read = [item for item in items if not isinstance(item, UserError)]
    return default_collate(read) if read else [], errors


class WorkerLoader(EpochLoader):
    """A loader whose workers prepare batches of bytes, which are normalised on the device.

    Args:
        samples: the images.
        facts: image size, augmentation and normalisation of the data set.
        sampler, device, erasing: see `EpochLoader`.
        num_workers: number of worker processes; 0 reads in this process.
        left_out: list for the errors of images that cannot be read, which are then left out; None raises the first.
    """

    def __init__(
        self,
        samples: TensorSet | FileSet,
        facts: Facts,
        sampler: EpochSampler,
        device: torch.device,
        num_workers: int,
        erasing: Erasing | None = None,
        left_out: list[UserError] | None = None,
    ) -> None:
        super().__init__(sampler, device, erasing)
        evaluates = sampler.seed is None
        geometry = EvaluationGeometry(facts.preprocessing) if evaluates else training_geometry(facts)
        self.dataset = Transformed(samples, geometry)
        self.normalise = Normalise(*facts.preprocessing.statistics, device)
        self.num_workers = num_workers
        self.left_out = left_out

    def _load(self, batches: list[Tensor]) -> Iterator[Batch]:
        draws = torch.zeros(len(self.dataset), dtype=torch.int64)
        if self.sampler.seed is not None:
            draws.random_(generator=self.sampler.generator("augmentation"))
        loader = DataLoader(
            self.dataset,
            batch_sampler=[list(zip(batch.tolist(), draws[batch].tolist(), strict=True)) for batch in batches],
            num_workers=self.num_workers,
            collate_fn=_collate,
            pin_memory=self.device.type == "cuda",
            # Workers must not draw their seeds from the global random state: that would change later draws.
            generator=torch.Generator(),
        )
        for batch, errors in loader:
            if errors and self.left_out is None:
                raise errors[0]
            if self.left_out is not None:
                self.left_out += errors
            if batch:
                images = batch[0].to(self.device, non_blocking=True)
                yield self.normalise(images), batch[1].to(self.device, non_blocking=True)
