"""A loader that keeps small images on the device: no workers, no copies, random crops of a whole batch at once."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ranet.data.loading.erasing import Erasing
from ranet.data.loading.loader import Batch, EpochLoader
from ranet.data.loading.sampling import EpochSampler
from ranet.data.loading.transforms import Normalise, crop_and_flip, stored
from ranet.data.sets.catalogue import Facts
from ranet.data.sets.sources import TensorSet


class DeviceLoader(EpochLoader):
    """Batches from a uint8 tensor on the device.

    The augmentation of a sample is a pure function of (seed, epoch, sample). It does not depend on the batch size or
    the number of processes, and is the same on CPU and GPU.

    Args:
        samples: the images; moved to ``device`` once, here.
        facts: normalisation, padding and mirroring of the data set, whose images are all of one size.
        sampler, device, erasing: see `EpochLoader`.
    """

    def __init__(
        self,
        samples: TensorSet,
        facts: Facts,
        sampler: EpochSampler,
        device: torch.device,
        erasing: Erasing | None = None,
    ) -> None:
        super().__init__(sampler, device, erasing)
        self.images = samples.images.to(device)
        self.labels = samples.labels.to(device)
        self.padding, self.flips, self.preprocessing = facts.crop_padding or 0, facts.flip, facts.preprocessing
        self.normalise = Normalise(*facts.preprocessing.statistics, device)

    def _load(self, batches: list[Tensor]) -> Iterator[Batch]:
        draws = None if self.sampler.seed is None else self._draw()
        if not batches:
            return
        # All indices of the epoch at once: with a transfer for each batch, the CPU would wait for the GPU.
        indices = torch.cat(batches).to(self.images.device)
        for batch in indices.split([len(batch) for batch in batches]):
            images = self.images.index_select(0, batch)  # many times faster than images[batch] on a CPU
            if draws is not None:
                top, left, flip = (draw[batch] for draw in draws)
                images = crop_and_flip(images, top, left, flip, self.padding)
            yield self.normalise(stored(images, self.preprocessing)), self.labels[batch]

    def _draw(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the window and the mirroring of every sample in this epoch: int64 (N,), int64 (N,), bool (N,)."""
        generator, count = self.sampler.generator("augmentation"), len(self.labels)
        top, left = torch.randint(2 * self.padding + 1, (2, count), generator=generator).to(self.images.device)
        flip = torch.randint(1 + self.flips, (count,), generator=generator).to(self.images.device)
        return top, left, flip.bool()
