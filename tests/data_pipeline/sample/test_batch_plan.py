"""How a global batch is divided into micro-batches, and its slots among ranks."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from data_pipeline.sample import batch_plan
from data_pipeline.sample.batch_plan import balanced, micro_batches
from mytalk.command import UserError

sizes = st.integers(1, 400)


@given(sizes, st.integers(1, 64), st.integers(1, 32))
@settings(max_examples=200)
def test_divide_gives_the_largest_micro_batch_or_the_neighbours_that_work(global_batch, max_micro, world_size):
    if global_batch % world_size:
        with pytest.raises(UserError) as refused:
            batch_plan.divide(global_batch, max_micro, world_size)
        named = [int(n) for n in re.findall(r"\d+", str(refused.value).split("global_batch=")[1])]
        works = [n for n in range(1, 500) if n % world_size == 0]
        below, above = [n for n in works if n < global_batch][-1:], min(n for n in works if n > global_batch)
        assert named == [*below, above]
        for number in named:
            batch_plan.divide(number, max_micro, world_size)
        return
    made = batch_plan.divide(global_batch, max_micro, world_size)
    assert made.micro_batch * made.accumulation * made.world_size == made.global_batch == global_batch
    assert made.micro_batch <= max_micro
    share = global_batch // world_size
    assert not [m for m in range(made.micro_batch + 1, min(max_micro, share) + 1) if share % m == 0]


def length_of(slot: int) -> int:
    """Of 24 to 250 frames, as if drawn."""
    return 24 + (slot * 7919) % 227


@given(
    st.integers(1, 6),
    st.integers(1, 5),
    st.integers(1, 5),
    st.integers(0, 1000),
    st.integers(0, 4),
    st.sampled_from([None, length_of]),
)
@settings(max_examples=100, deadline=None)
def test_micro_batches_cover_each_step_exactly_once(world_size, micro, accumulation, start, steps, dealt_by):
    """Over all ranks every slot of every step comes once, in its own step, in as many micro-batches a rank. Dealt
    by length, none has more padded frames than micro-batches of one size could have.
    """
    global_batch = world_size * micro * accumulation
    per_rank = [
        list(micro_batches(global_batch, micro, rank, world_size, start, start + steps, dealt_by))
        for rank in range(world_size)
    ]
    for step in range(steps):
        held, largest = [], []
        for rounds in per_rank:
            own = rounds[step * accumulation : (step + 1) * accumulation]
            assert len(own) == accumulation
            assert all(own)
            assert dealt_by or all(len(numbers) == micro for numbers in own)
            held += [slot for numbers in own for slot in numbers]
            padded = [len(numbers) * max(map(length_of, numbers)) for numbers in own]
            largest.append(max(padded))
        first = (start + step) * global_batch
        assert sorted(held) == list(range(first, first + global_batch))
        if dealt_by:
            sorted_lengths = sorted(map(length_of, held), reverse=True)
            assert max(largest) <= micro * sorted_lengths[0]
    assert all(len(rounds) == steps * accumulation for rounds in per_rank)


def padded_share(micro: int, world_size: int, dealt_by=None) -> float:
    """Of the frames that all ranks could compute at a time, the share that is padding, or waits for a larger one."""
    rounds = zip(*(micro_batches(256, micro, rank, world_size, 0, 50, dealt_by) for rank in range(world_size)))
    lengths = [[[length_of(slot) for slot in slots] for slots in at_a_time] for at_a_time in rounds]
    computed = sum(world_size * max(max(own) * len(own) for own in at_a_time) for at_a_time in lengths)
    return 1 - sum(sum(own) for at_a_time in lengths for own in at_a_time) / computed


def test_dealt_by_length_a_step_is_hardly_padded_nor_waits_for_a_rank():
    for micro, world_size in ((4, 1), (32, 1), (4, 8), (32, 8)):
        assert padded_share(micro, world_size) > 0.3
        assert padded_share(micro, world_size, length_of) < 0.13


@given(st.lists(st.integers(1, 9), min_size=1, max_size=8), st.integers(1, 8))
@settings(max_examples=60, deadline=None)
def test_the_largest_group_is_as_small_as_it_can_be(lengths, count):
    """Against all ways to cut the slots, sorted by length, into as many groups."""
    count = min(count, len(lengths))
    groups = balanced(list(range(len(lengths))), lengths, count)
    assert sorted(slot for group in groups for slot in group) == list(range(len(lengths)))
    assert len(groups) == count
    assert all(groups)
    longest_first = sorted(lengths, reverse=True)
    ways = itertools.combinations(range(1, len(lengths)), count - 1)
    cut = [list(itertools.pairwise((0, *way, len(lengths)))) for way in ways]
    least = min(max(longest_first[a] * (b - a) for a, b in way) for way in cut)
    assert max(max(lengths[slot] for slot in group) * len(group) for group in groups) == least


@given(st.integers(0, 20), st.integers(0, 20))
@settings(max_examples=30, deadline=None)
def test_seeking_equals_the_tail_of_the_whole(start, stop):
    assume(start <= stop)
    whole = list(micro_batches(12, 2, 1, 3, 0, stop))
    assert list(micro_batches(12, 2, 1, 3, start, stop)) == whole[start * 2 :]
