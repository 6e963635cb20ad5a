"""The base class of the loaders: an epoch can be resumed at any batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ranet.data.loading.erasing import Erasing, erase
from ranet.data.loading.sampling import EpochSampler

Batch = tuple[Tensor, Tensor]


class EpochLoader(ABC):
    """An iterable of the batches of one epoch: (float32 (B, C, H, W) normalised, int64 (B,)), on the device.

    It is not a ``torch.utils.data.DataLoader``, so Lightning does not change its order. Lightning finds
    ``sampler.set_epoch`` and, for runs resumed within an epoch, :meth:`state_dict`.

    Args:
        sampler: order of each epoch; with a seed, images are augmented.
        device: device of the batches.
        erasing: rectangles to erase from training images after normalisation, on the device; None erases nothing.
    """

    def __init__(self, sampler: EpochSampler, device: torch.device, erasing: Erasing | None = None) -> None:
        self.sampler = sampler
        self.device = device
        self.erasing = erasing
        self.batch_sampler = None  # Lightning reads it when it checks whether the order is shuffled
        self._given = 0
        self._skip = 0

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches of the sampler's epoch.

        This must be a generator: Lightning makes the first iterator before it sets the epoch, so nothing may be drawn
        before the first batch is taken.
        """
        self._given, self._skip = self._skip, 0
        batches = self.sampler.batches()[self._given :]
        for batch in self._erased(self._load(batches), batches):
            self._given += 1
            yield batch

    def _erased(self, loaded: Iterator[Batch], batches: list[Tensor]) -> Iterator[Batch]:
        """Yield the loaded batches with their rectangles erased, a pure function of (seed, epoch, sample)."""
        if self.erasing is None or not batches:
            yield from loaded
            return
        # A separate generator, so that crops and flips are the same with and without erasing. All rectangles of the
        # epoch at once: with a transfer for each batch, the CPU would wait for the GPU.
        drawn = self.erasing.draw(self.sampler.count, self.sampler.generator("erasing"))
        boxes = drawn[torch.cat(batches)].to(self.device).split([len(batch) for batch in batches])
        for (images, labels), erased in zip(loaded, boxes, strict=True):
            yield erase(images, erased), labels

    @abstractmethod
    def _load(self, batches: list[Tensor]) -> Iterator[Batch]:
        """Yield the samples of each batch of indices."""

    def state_dict(self) -> dict[str, Any]:
        """Return how many batches of the epoch were yielded; 0 after the last one."""
        return {"given": self._given % max(1, len(self))}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Start the next iteration at the batch after ``state``."""
        self._skip = state["given"]
