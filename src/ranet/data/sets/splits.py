"""Seeded splits into training and held-out images, disjoint and complete."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from ranet.errors import UserError


def derived_seed(*parts: int | str) -> int:
    """Return a seed in [0, 2^63) from the hash of ``parts``, the same on every machine and in every version.

    Sums of numbers would collide (seed 1 of epoch 2 is seed 2 of epoch 1); a hash does not.

    Example:
        >>> derived_seed("split", 0) == derived_seed("split", 0) != derived_seed("split", 1)
        True
    """
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def derived_generator(*parts: int | str) -> torch.Generator:
    """Return a CPU generator seeded with :func:`derived_seed`."""
    return torch.Generator().manual_seed(derived_seed(*parts))


def held_out_count(total: int, size: int | float) -> int:
    """Return how many of ``total`` samples to hold out: ``size`` if it is an integer, else that share of them.

    Raises:
        UserError: if no training images would remain, or the size is not a count or a share.

    Example:
        >>> held_out_count(50_000, 5_000), held_out_count(1_000, 0.1), held_out_count(10, 0)
        (5000, 100, 0)
    """
    count = round(total * size) if isinstance(size, float) else size
    if not isinstance(count, int) or isinstance(size, bool) or not 0 <= count < total:
        raise UserError(
            f"data.validation_size={size} cannot be held out of {total} training images; "
            f"choose a count from 0 to {total - 1} or a share below 1."
        )
    return count


def hold_out(total: int, size: int | float, seed: int, purpose: str = "validation") -> tuple[Tensor, Tensor]:
    """Split ``range(total)`` by a seeded permutation; splits for different purposes are independent.

    Returns:
        The indices that stay and the held-out indices (`held_out_count`), each ascending, int64.
    """
    count = held_out_count(total, size)
    order = _order(total, purpose, seed)
    return order[count:].sort().values, order[:count].sort().values


def hold_out_stratified(labels: Tensor, size: int | float, seed: int) -> tuple[Tensor, Tensor]:
    """Split samples by a seeded permutation, holding out the same share of every class.

    The counts follow the largest-remainder method: every class gives the integer part of its share, and the classes
    with the largest fractions give one more. A class gives its last sample only if all other classes have one left.

    Returns:
        As `hold_out`.

    Example:
        >>> stay, held_out = hold_out_stratified(torch.tensor([0] * 20 + [1] * 10 + [2]), 3, seed=0)
        >>> labels = torch.tensor([0] * 20 + [1] * 10 + [2])
        >>> labels[held_out].tolist()
        [0, 0, 1]
    """
    total = len(labels)
    count = held_out_count(total, size)
    per_class = torch.bincount(labels)
    shares = count * per_class.double() / total
    quotas = shares.floor().long()
    by_fraction = (quotas - shares).argsort(stable=True)
    for spare in (1, 0):
        missing = count - int(quotas.sum())
        can_give = by_fraction[(per_class - quotas)[by_fraction] > spare]
        quotas[can_give[:missing]] += 1
    order = _order(total, "validation", seed)
    by_class = order[labels[order].argsort(stable=True)]  # class after class, each in the order of the permutation
    rank = torch.arange(total) - (per_class.cumsum(0) - per_class)[labels[by_class]]
    chosen = rank < quotas[labels[by_class]]
    return by_class[~chosen].sort().values, by_class[chosen].sort().values


def _order(total: int, purpose: str, seed: int) -> Tensor:
    return torch.randperm(total, generator=derived_generator("split", purpose, seed))


def choose(total: int, limit: int, seed: int) -> Tensor:
    """Return a seeded choice of ``limit`` indices from ``range(total)``, ascending, int64.

    Raises:
        UserError: if there are fewer than ``limit``.
    """
    if limit > total:
        raise UserError(f"data.train_limit={limit} is more than the {total} training images; lower or remove it.")
    return torch.randperm(total, generator=derived_generator("limit", seed))[:limit].sort().values


def divide(images: int, share: float, seed: int, copies: int = 1) -> tuple[Tensor, Tensor]:
    """Divide images in two as `ranet.data.ImageData.validation_parts`; copy c of sample i is image c * samples + i."""
    samples = images // copies
    count = round(samples * share) if 0 < share < 1 else 0
    if not 0 < count < samples:
        raise UserError(
            f"A share of {share:g} of {samples} validation samples leaves one of two parts empty; use another share "
            "between 0 and 1, or a larger data.validation_size."
        )
    rest, first = hold_out(samples, count, seed, purpose="part of validation")
    offsets = samples * torch.arange(copies).unsqueeze(1)
    return (offsets + first).flatten(), (offsets + rest).flatten()
