"""What both loaders share: epochs that can be entered anywhere."""

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
    """An iterable of the batches of one epoch: (float32 (B, 3, H, W) normalised, int64 (B,)), on the device.

    It is no ``torch.utils.data.DataLoader``, so Lightning leaves its order alone; Lightning finds ``sampler.set_epoch``
    and, for runs that go on in the middle of an epoch, :meth:`state_dict`.

    Args:
        sampler: the order of each epoch; with a seed, images are augmented.
        device: where the batches come out.
        erasing: what is erased from training images after they were normalised, on their device and alike in all
            loaders; None is nothing.
    """

    def __init__(self, sampler: EpochSampler, device: torch.device, erasing: Erasing | None = None) -> None:
        self.sampler = sampler
        self.device = device
        self.erasing = erasing
        self.batch_sampler = None  # Lightning reads it beside the sampler when it asks whether the order is shuffled
        self._given = 0
        self._skip = 0

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[Batch]:
        """Go through the epoch that the sampler is set to.

        A generator on purpose: Lightning asks for the first iterator before it sets the epoch, and nothing may be drawn
        until the first batch is taken.
        """
        self._given, self._skip = self._skip, 0
        batches = self.sampler.batches()[self._given :]
        for batch in self._erased(self._load(batches), batches):
            self._given += 1
            yield batch

    def _erased(self, loaded: Iterator[Batch], batches: list[Tensor]) -> Iterator[Batch]:
        """The loaded batches with their rectangles erased: a pure function of (seed, epoch, sample)."""
        if self.erasing is None or not batches:
            yield from loaded
            return
        # Draws of their own, so that crops and flips are the same with and without them. All rectangles of the epoch
        # at once: a transfer per batch would make the CPU wait for the GPU each time.
        drawn = self.erasing.draw(self.sampler.count, self.sampler.generator("erasing"))
        boxes = drawn[torch.cat(batches)].to(self.device).split([len(batch) for batch in batches])
        for (images, labels), erased in zip(loaded, boxes, strict=True):
            yield erase(images, erased), labels

    @abstractmethod
    def _load(self, batches: list[Tensor]) -> Iterator[Batch]:
        """The samples at each of the ``batches`` of indices."""

    def state_dict(self) -> dict[str, Any]:
        """How many batches of the epoch were given out; 0 after the last one."""
        return {"given": self._given % max(1, len(self))}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Begin the next iteration where ``state`` was taken."""
        self._skip = state["given"]
