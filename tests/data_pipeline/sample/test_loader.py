"""What slot n holds is the same for all four recipes at any world size, worker count and after any resume."""

from __future__ import annotations

import hashlib
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipeline.examples.syncnet import SyncExamples
from data_pipeline.sample.slot_random import Purpose, slot_random
from data_pipeline.sample.windows import SamplingConfig
from data_pipeline.shards.manifest import Manifest
from tests.helpers.consumed import (
    DRAWN,
    GLOBAL_BATCH,
    RECIPES,
    STEPS,
    Consumed,
    assert_same,
    run,
)

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")  # 3 workers, however few the cores
SPLITS_OF_WORK = [(1, 3, 4), (2, 1, 3), (3, 0, 2), (4, 1, 3), (6, 0, 1)]  # world size, workers, micro-batch


@pytest.mark.parametrize("recipe", ["syncnet", "identity", "appearance"])  # the motion model's: test_order.py
@pytest.mark.parametrize(("world", "workers", "micro"), SPLITS_OF_WORK)
def test_every_recipe_is_the_same_at_any_world_size_and_worker_count(shards, alone, recipe, world, workers, micro):
    assert sorted(alone[recipe]) == list(range(STEPS * GLOBAL_BATCH))
    assert_same(run(RECIPES[recipe](Manifest.load(shards), DRAWN), world, workers, micro), alone[recipe])


@pytest.mark.parametrize("recipe", RECIPES)
def test_stopped_anywhere_and_resumed_elsewhere_it_is_the_same(shards, alone, recipe):
    """At random steps, each leg at another world size and worker count; what was made ahead is thrown away."""
    random = np.random.default_rng(len(recipe))
    for _ in range(2):
        cuts = sorted({0, STEPS, *random.integers(1, STEPS, 2).tolist()})
        made = Consumed()
        for start, until in itertools.pairwise(cuts):
            world, workers, micro = SPLITS_OF_WORK[int(random.integers(len(SPLITS_OF_WORK)))]
            examples = RECIPES[recipe](Manifest.load(shards), DRAWN)
            made.update(run(examples, world, workers, micro, start, until=until))
        assert_same(made, alone[recipe])


def test_recipes_and_seeds_do_not_share_their_examples(shards, alone):
    other = run(SyncExamples(Manifest.load(shards), SamplingConfig(seed=4), 12, 0.1))
    assert [one["key"] for one in other.values()] != [one["key"] for one in alone["syncnet"].values()]


@given(st.text("0123456789abcdef", min_size=1, max_size=32), st.integers(0, 2**63), st.integers(0, 2**62))
@settings(max_examples=30, deadline=None)
def test_random_numbers_are_philox_keyed_by_digest_and_seed(digest, seed, slot):
    """As documented, so that a run begun by an older version goes on with the same numbers."""
    key = int.from_bytes(hashlib.blake2b(f"{digest}:{seed}".encode(), digest_size=16).digest(), "big")
    expected = np.random.Generator(np.random.Philox(key=key, counter=[0, 7, slot, Purpose.SOURCE]))
    own = slot_random(digest, seed, slot, Purpose.SOURCE, 7)
    assert own.random(5).tolist() == expected.random(5).tolist()
    assert own.integers(1 << 40, size=5).tolist() == expected.integers(1 << 40, size=5).tolist()
