import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ranet.data.loading.sampling import EpochSampler, evaluation_batches, training_batches

counts, batch_sizes, world_sizes = st.integers(1, 200), st.integers(1, 40), st.integers(1, 5)


@given(count=counts, batch_size=batch_sizes, world_size=world_sizes)
def test_training_covers_the_set_in_equal_steps(count: int, batch_size: int, world_size: int) -> None:
    count = max(count, world_size)
    order = torch.randperm(count)
    ranks = [training_batches(order, batch_size, rank, world_size) for rank in range(world_size)]
    assert len({tuple(map(len, batches)) for batches in ranks}) == 1, "all processes take the same steps"
    seen = torch.cat([torch.cat(batches) for batches in ranks])
    left_out = count - len(seen.unique())
    assert left_out <= world_size if batch_size > 1 else left_out == 0
    assert len(seen) - len(seen.unique()) < world_size, "only the filling comes twice"
    if batch_size > 1 and len(ranks[0]) > 1:
        assert all(len(batch) > 1 for batch in ranks[0])


@given(batches=st.integers(1, 6), batch_size=batch_sizes, world_size=world_sizes)
def test_processes_together_make_the_batches_of_one(batches: int, batch_size: int, world_size: int) -> None:
    order = torch.randperm(batches * batch_size * world_size)
    single = training_batches(order, batch_size * world_size, 0, 1)
    ranks = [training_batches(order, batch_size, rank, world_size) for rank in range(world_size)]
    for whole, *pieces in zip(single, *ranks, strict=True):
        assert torch.equal(torch.stack(pieces, 1).flatten(), whole)


@given(count=counts, batch_size=st.integers(2, 40), world_size=world_sizes)
def test_evaluation_sees_each_sample_once(count: int, batch_size: int, world_size: int) -> None:
    count = max(count, world_size)
    ranks = [evaluation_batches(count, batch_size, rank, world_size) for rank in range(world_size)]
    assert len({len(batches) for batches in ranks}) == 1, "as many batches in every process"
    assert all(1 <= len(batch) <= batch_size for batches in ranks for batch in batches)
    assert torch.cat([torch.cat(batches) for batches in ranks]).sort().values.tolist() == list(range(count))
    assert torch.cat(ranks[0]).tolist() == list(range(0, count, world_size))


@given(count=counts, batch_size=batch_sizes, world_size=world_sizes, training=st.booleans())
def test_length(count: int, batch_size: int, world_size: int, training: bool) -> None:
    count = max(count, world_size)
    batch_size = batch_size if training else max(2, batch_size)
    for rank in range(world_size):
        sampler = EpochSampler(count, batch_size, 0 if training else None, rank, world_size)
        assert len(sampler) == len(list(sampler))


def test_a_last_batch_of_one_sample_is_left_out() -> None:
    assert [len(batch) for batch in training_batches(torch.arange(9), 4, 0, 1)] == [4, 4]
    assert [len(batch) for batch in training_batches(torch.arange(10), 4, 0, 1)] == [4, 4, 2]
    assert [len(batch) for batch in training_batches(torch.arange(3), 1, 0, 1)] == [1, 1, 1]
    assert [len(batch) for batch in training_batches(torch.arange(1), 4, 0, 1)] == [1]


def test_an_epoch_depends_on_seed_and_epoch_alone() -> None:
    one, other = EpochSampler(100, 10, seed=0), EpochSampler(100, 10, seed=0)
    for epoch in range(4):
        one.set_epoch(epoch)
        last = torch.cat(list(one))
        assert torch.equal(last, torch.cat(list(one))), "the same epoch twice is the same"
    other.set_epoch(3)
    assert torch.equal(last, torch.cat(list(other)))
    other.set_epoch(2)
    assert not torch.equal(last, torch.cat(list(other)))
    third = EpochSampler(100, 10, seed=1)
    third.set_epoch(3)
    assert not torch.equal(last, torch.cat(list(third)))


def test_purposes_draw_independently() -> None:
    sampler = EpochSampler(10, 2, seed=0)
    a, b = (torch.rand(5, generator=sampler.generator(purpose)) for purpose in ("order", "augmentation"))
    assert not torch.equal(a, b)
    with pytest.raises(AssertionError):
        EpochSampler(10, 2, seed=None).generator("order")
