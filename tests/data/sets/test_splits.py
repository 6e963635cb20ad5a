import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ranet.data.sets.splits import (
    choose,
    derived_generator,
    derived_seed,
    held_out_count,
    hold_out,
    hold_out_stratified,
)
from ranet.errors import UserError


@given(total=st.integers(1, 300), share=st.floats(0, 1, exclude_max=True), seed=st.integers(0, 5), count=st.booleans())
def test_hold_out_is_disjoint_and_complete(total: int, share: float, seed: int, count: bool) -> None:
    size = int(share * total) if count else min(share, (total - 1) / total)
    stay, held_out = hold_out(total, size, seed)
    assert torch.equal(torch.cat([stay, held_out]).sort().values, torch.arange(total))
    assert len(held_out) == held_out_count(total, size)
    assert torch.equal(stay, stay.sort().values)
    assert torch.equal(held_out, held_out.sort().values)


def test_hold_out_follows_the_seed_and_the_purpose() -> None:
    held_out = hold_out(1000, 100, seed=0)[1]
    assert torch.equal(held_out, hold_out(1000, 100, seed=0)[1])
    assert not torch.equal(held_out, hold_out(1000, 100, seed=1)[1])
    assert not torch.equal(held_out, hold_out(1000, 100, seed=0, purpose="test")[1])


def test_hold_out_is_the_same_everywhere() -> None:
    # Policies are solved on this split and used on other machines and versions, so it may never change.
    assert hold_out(50_000, 5_000, seed=0)[1][:5].tolist() == [18, 25, 38, 47, 69]


@pytest.mark.parametrize("size", [10, 11, -1, 1.0, -0.1, 0.99, True, "many"])
def test_what_cannot_be_held_out(size: object) -> None:
    with pytest.raises(UserError, match=f"validation_size={size} cannot be held out of 10"):
        held_out_count(10, size)  # type: ignore[arg-type]


def test_choose() -> None:
    chosen = choose(100, 30, seed=0)
    assert len(set(chosen.tolist())) == 30
    assert torch.equal(chosen, choose(100, 30, seed=0))
    assert set(chosen[:10].tolist()) != set(range(10))
    assert torch.equal(choose(7, 7, seed=3), torch.arange(7))
    with pytest.raises(UserError, match="train_limit=8 is more than the 7"):
        choose(7, 8, seed=0)


def test_derived_seeds_do_not_collide() -> None:
    seeds = {derived_seed("order", seed, epoch) for seed in range(30) for epoch in range(30)}
    assert len(seeds) == 900
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert derived_generator("a", 1).initial_seed() == derived_seed("a", 1)


@given(counts=st.lists(st.integers(0, 40), min_size=1, max_size=8), share=st.floats(0, 1), seed=st.integers(0, 5))
def test_every_class_gives_its_share(counts: list[int], share: float, seed: int) -> None:
    labels = torch.cat([torch.full((count,), k) for k, count in enumerate(counts)]).long()
    total = len(labels)
    if total == 0:
        return
    labels = labels[torch.randperm(total, generator=torch.Generator().manual_seed(seed))]
    size = min(int(share * total), total - 1)
    stay, held_out = hold_out_stratified(labels, size, seed)
    assert torch.cat([stay, held_out]).sort().values.tolist() == list(range(total))
    assert len(held_out) == size
    given_by = torch.bincount(labels[held_out], minlength=len(counts)).tolist()
    for count, quota in zip(counts, given_by, strict=True):
        assert abs(quota - size * count / total) < 1 or size > total - sum(map(bool, counts))
        # Something of every class is trained on, unless more is held out than that allows.
        assert quota < count or count == 0 or size > total - sum(map(bool, counts))
    assert torch.equal(held_out, hold_out_stratified(labels, size, seed)[1])


def test_which_images_of_a_class_are_held_out_follows_the_seed() -> None:
    labels = torch.arange(1000) % 10
    held_out = [hold_out_stratified(labels, 0.1, seed)[1] for seed in (0, 1)]
    assert not torch.equal(*held_out)
    assert all(torch.bincount(labels[each]).tolist() == [10] * 10 for each in held_out)
