"""The samples of each batch, as a pure function of (seed, epoch, rank, number of processes)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ranet.data.sets.splits import derived_generator


def training_batches(order: Tensor, batch_size: int, rank: int, world_size: int) -> list[Tensor]:
    """Return the training batches of one process from the order of an epoch.

    Process r takes the samples r, r + W, r + 2W, ... of the order. So batch b of all W processes, with ``batch_size``
    samples each, is together batch b of one process with ``W * batch_size``, and the mean of their gradients is its
    gradient. The order is first extended to a multiple of W with its own beginning, because all processes must take the
    same number of steps.

    A last batch of one sample is dropped, because batch normalisation cannot estimate a variance from it, unless it is
    the only batch.

    The order is int64 (N,); the others as for `EpochSampler`.

    Example:
        >>> training_batches(torch.arange(8), batch_size=2, rank=1, world_size=2)
        [tensor([1, 3]), tensor([5, 7])]
    """
    filled = torch.cat([order, order[: -len(order) % world_size]])
    batches = list(filled[rank::world_size].split(batch_size))
    if batch_size > 1 and len(batches) > 1 and len(batches[-1]) == 1:
        batches.pop()
    return batches


def evaluation_batches(count: int, batch_size: int, rank: int, world_size: int) -> list[Tensor]:
    """Return the evaluation batches of one process from ``range(count)``, in order.

    Process r takes the samples r, r + W, r + 2W, ...: every sample once, so that metrics over all processes are those
    of the set. All processes get the same number of batches (some networks exchange buffers at every batch). For this,
    a process with one sample less halves its last batch if necessary. With several processes, the batch size must be at
    least 2, and there are at most as many processes as samples.

    Example:
        >>> evaluation_batches(5, batch_size=2, rank=0, world_size=2)
        [tensor([0, 2]), tensor([4])]
        >>> evaluation_batches(5, batch_size=2, rank=1, world_size=2)
        [tensor([1]), tensor([3])]
    """
    batches = list(torch.arange(rank, count, world_size).split(batch_size))
    longest = -(-count // world_size)
    if len(batches) < -(-longest // batch_size):
        batches[-1:] = batches[-1].tensor_split(2)
    return batches


@dataclass(eq=False)
class EpochSampler:
    """The batches of each epoch, as indices; Lightning sets the epoch by :meth:`set_epoch`."""

    count: int  # number of samples in the set, N
    batch_size: int  # samples in a batch of each process
    seed: int | None  # seed of order and augmentation; None for evaluation, in the order of the set
    rank: int = 0  # index of this process
    world_size: int = 1  # number of processes
    shuffled: bool = True  # false for training images in the order of the set, with augmentation
    epoch: int = 0

    @property
    def in_order(self) -> bool:
        """Whether the samples come in the order of the set."""
        return self.seed is None or not self.shuffled

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration."""
        self.epoch = epoch

    def generator(self, purpose: str) -> torch.Generator:
        """Return a generator for random draws of this epoch: the same in all processes, different for each purpose."""
        assert self.seed is not None, "evaluation draws nothing"
        return derived_generator(purpose, self.seed, self.epoch)

    def batches(self) -> list[Tensor]:
        """Return the batches of this process in the current epoch, int64 (B,) each."""
        if self.in_order:
            return evaluation_batches(self.count, self.batch_size, self.rank, self.world_size)
        order = torch.randperm(self.count, generator=self.generator("order"))
        return training_batches(order, self.batch_size, self.rank, self.world_size)

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.batches())

    def __len__(self) -> int:
        per_process = -(-self.count // self.world_size)
        full, rest = divmod(per_process, self.batch_size)
        lone = not self.in_order and self.batch_size > 1 and full > 0 and rest == 1
        return full + (rest > 0) - lone
