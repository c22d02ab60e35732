"""How a global batch is divided into micro-batches."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipeline.sample import batch_plan
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
