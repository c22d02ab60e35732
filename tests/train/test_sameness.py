"""Invariant 2 at length: every recipe, world size, accumulation and ZeRO stage, 50 steps (test_train.py: 8 to 12).

One process group for each world size trains all of its runs; together they take some twenty minutes on two cores.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.helpers.checkout import ROOT
from tests.train.test_loop import PLAYERS, STAGES, curve, train

STEPS, GLOBAL_BATCH = 50, 16
RATE = "optimizer.lr=1e-4"  # the paper's; at ten times that rounding becomes some percent (docs/log.md)
WORLDS, ACCUMULATIONS = (1, 2, 4), (1, 2, 4)
ONCE = ("workers=0", f"validate_every={STEPS}", f"checkpoint_every={STEPS}", f"log_every={STEPS}")

pytestmark = pytest.mark.full


@pytest.fixture(scope="module")
def runs(filmed_shards, tmp_path_factory) -> Path:
    """RECIPE-w<world size>a<accumulation>z<stage>."""
    folder = tmp_path_factory.mktemp("sameness")
    for world in WORLDS:
        jobs = []
        for recipe in PLAYERS:
            for accumulation in ACCUMULATIONS:
                for stage in STAGES:
                    micro = GLOBAL_BATCH // (world * accumulation)
                    batch = (f"global_batch={GLOBAL_BATCH}", f"max_micro_batch={micro}", f"steps={STEPS}", RATE)
                    run = f"run={folder / f'{recipe}-w{world}a{accumulation}z{stage}'}"
                    settings = [f"shards={filmed_shards}", run, f"zero_stage={stage}", *batch, *ONCE]
                    jobs.append([recipe, str(ROOT / "tests" / "helpers" / f"tiny_{recipe}.yaml"), settings])
        train(folder, world, jobs)
    return folder


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("accumulation", ACCUMULATIONS)
@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("recipe", PLAYERS)
def test_invariant_2_over_fifty_steps(runs, recipe, world, accumulation, stage):
    """The keys to the number, every player's loss within 1e-4."""
    run, reference = runs / f"{recipe}-w{world}a{accumulation}z{stage}", runs / f"{recipe}-w1a1z0"
    np.testing.assert_array_equal(curve(run, "keys"), curve(reference, "keys"))
    assert len(curve(run, "keys")) == STEPS
    for player in PLAYERS[recipe]:
        np.testing.assert_allclose(curve(run, f"loss/{player}"), curve(reference, f"loss/{player}"), rtol=1e-4)
