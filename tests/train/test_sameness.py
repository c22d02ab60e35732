"""Invariant 2 at length: every recipe, world size, accumulation and ZeRO stage, 50 steps (test_loop.py: 8).

One process group for each world size trains all of its runs; together they take some twenty minutes on two cores.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.training import PLAYERS, STAGES, Leg, curve, names_needed, train_runs

STEPS, GLOBAL_BATCH = 50, 16
RATE = "optimizer.lr=1e-4"  # the paper's; at ten times that rounding becomes some percent (docs/log.md)
WORLDS, ACCUMULATIONS = (1, 2, 4), (1, 2, 4)
CURVES = {recipe: (recipe,) for recipe in PLAYERS} | {"motion-dropout": ("motion", "dropout=0.1")}
ONCE = ("workers=0", f"validate_every={STEPS}", f"checkpoint_every={STEPS}", f"log_every={STEPS}")

pytestmark = pytest.mark.full


def matrix() -> dict[str, list[Leg]]:
    """RECIPE-w<world size>a<accumulation>z<stage>."""
    runs = {}
    for name, world, accumulation, stage in itertools.product(CURVES, WORLDS, ACCUMULATIONS, STAGES):
        micro = GLOBAL_BATCH // (world * accumulation)
        batch = (f"global_batch={GLOBAL_BATCH}", f"max_micro_batch={micro}", f"steps={STEPS}", RATE)
        recipe, *more = CURVES[name]
        leg = Leg(WORLDS.index(world), recipe, (f"zero_stage={stage}", *batch, *ONCE, *more))
        runs[f"{name}-w{world}a{accumulation}z{stage}"] = [leg]
    return runs


@pytest.fixture(scope="module")
def runs(request, filmed_shards, tmp_path_factory) -> Path:
    """The folder of those runs that the selected tests name."""
    folder, known = tmp_path_factory.mktemp("sameness"), matrix()
    train_runs(folder, filmed_shards, WORLDS, {name: known[name] for name in names_needed(request)})
    return folder


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("accumulation", ACCUMULATIONS)
@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("name", CURVES)
@pytest.mark.trains("{name}-w1a1z0", "{name}-w{world}a{accumulation}z{stage}")
def test_invariant_2_over_fifty_steps(runs, name, world, accumulation, stage):
    """The keys to the number, every player's loss within 1e-4."""
    run, reference = runs / f"{name}-w{world}a{accumulation}z{stage}", runs / f"{name}-w1a1z0"
    np.testing.assert_array_equal(curve(run, "keys"), curve(reference, "keys"))
    assert len(curve(run, "keys")) == STEPS
    for player in PLAYERS[CURVES[name][0]]:
        np.testing.assert_allclose(curve(run, f"loss/{player}"), curve(reference, f"loss/{player}"), rtol=1e-4)
