"""Who sees which samples when: a pure function of (seed, epoch, rank, number of processes)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ranet.data.sets.splits import derived_generator


def training_batches(order: Tensor, batch_size: int, rank: int, world_size: int) -> list[Tensor]:
    """The batches of one process out of the order of an epoch.

    Process r takes the samples r, r + W, r + 2W, ... of the order. So the b-th batches of all W processes, of
    ``batch_size`` samples each, together are the b-th batch that one process with ``W * batch_size`` would have had,
    and averaging their gradients gives its gradient. The order is first filled up to a multiple of W with its own
    beginning, because all processes must take the same number of steps.

    A last batch of a single sample is left out: batch normalisation has no variance to learn from it. An order that
    is one sample altogether is kept.

    Args:
        order: int64 (N,), the samples in the order of the epoch.
        batch_size: the samples per batch and process.
        rank: this process, 0 to ``world_size - 1``.
        world_size: the number of processes.

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
    """The batches of one process out of ``range(count)``, in order.

    Process r takes the samples r, r + W, r + 2W, ...: no sample twice, none left out, so that metrics gathered from
    all processes are those of the set. All processes get the same number of batches (some networks exchange buffers at
    every batch), for which a process with one sample less halves its last batch where need be.

    Args:
        count: the number of samples N.
        batch_size: the most samples per batch and process; at least 2 where there are several processes.
        rank: this process, 0 to ``world_size - 1``.
        world_size: the number of processes, at most N.

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


class EpochSampler:
    """The batches of each epoch, as indices; Lightning sets the epoch by :meth:`set_epoch`.

    Args:
        count: the number of samples in the set, N.
        batch_size: the samples per batch and process.
        seed: the seed of order and augmentation; None for evaluation, which goes through the set in order.
        rank: this process.
        world_size: the number of processes.
    """

    def __init__(self, count: int, batch_size: int, seed: int | None, rank: int = 0, world_size: int = 1) -> None:
        self.count = count
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration goes through."""
        self.epoch = epoch

    def generator(self, purpose: str) -> torch.Generator:
        """A generator for random draws of this epoch; the same in all processes, and another for each purpose."""
        assert self.seed is not None, "evaluation draws nothing"
        return derived_generator(purpose, self.seed, self.epoch)

    def batches(self) -> list[Tensor]:
        """The batches of this process in the present epoch, int64 (B,) each."""
        if self.seed is None:
            return evaluation_batches(self.count, self.batch_size, self.rank, self.world_size)
        order = torch.randperm(self.count, generator=self.generator("order"))
        return training_batches(order, self.batch_size, self.rank, self.world_size)

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.batches())

    def __len__(self) -> int:
        per_process = -(-self.count // self.world_size)
        full, rest = divmod(per_process, self.batch_size)
        lone = self.seed is not None and self.batch_size > 1 and full > 0 and rest == 1
        return full + (rest > 0) - lone
