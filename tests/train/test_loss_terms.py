"""Named terms of a loss in metrics.jsonl and TensorBoard: means over the global batch at any world size."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.checkout import ROOT
from tests.helpers.odd_recipe import GAP_STEP

BATCH, STEPS, MOUTH_WEIGHT = 8, 3, 1.0
HELPERS = ROOT / "tests" / "helpers"


def metrics(run: Path) -> list[dict]:
    """The lines of metrics.jsonl that are of steps."""
    lines = (json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines())
    return [line for line in lines if "keys" in line]


@pytest.fixture(scope="module")
def runs(filmed_shards, tmp_path_factory) -> Path:
    """`RECIPE-wN` trained for three steps by N processes."""
    folder = tmp_path_factory.mktemp("terms")
    for world_size in (1, 2):
        jobs = []
        for recipe, file in {"odd": "", "motion": "tiny_motion.yaml", "appearance": "tiny_appearance.yaml"}.items():
            run = folder / f"{recipe}-w{world_size}"
            settings = [f"shards={filmed_shards}", f"run={run}", f"steps={STEPS}", "workers=0", "log_every=1"]
            jobs.append([recipe, file and str(HELPERS / file), settings])
        (folder / "jobs.json").write_text(json.dumps(jobs))
        launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(world_size)]
        trained = subprocess.run(
            [*launch, "-m", "tests.helpers.train_matrix", str(folder / "jobs.json")],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
        )
        assert trained.returncode == 0, trained.stdout[-2000:] + trained.stderr[-6000:]
    return folder


@pytest.mark.parametrize("world_size", [1, 2])
def test_a_term_is_the_mean_over_the_global_batch(runs, world_size):
    """A term that is the slot's own number: steps hold consecutive slots, so the mean is known."""
    slots = [line["loss/odd/slot"] for line in metrics(runs / f"odd-w{world_size}")]
    assert slots == [step * BATCH + (BATCH - 1) / 2 for step in range(STEPS)]


@pytest.mark.parametrize("world_size", [1, 2])
def test_a_term_that_is_not_finite_on_one_rank_is_null_and_skips_nothing(runs, world_size):
    steps = metrics(runs / f"odd-w{world_size}")
    assert [line["loss/odd/gap"] for line in steps] == [None if line["step"] == GAP_STEP else 1.0 for line in steps]
    assert [line["skipped_steps"] for line in steps] == [0] * STEPS


@pytest.mark.parametrize(
    ("recipe", "terms"),
    [
        ("motion", {"motion/x0", "motion/eps"}),
        (
            "appearance",
            {f"generator/{term}" for term in ("l1", "mouth_l1", "adversarial", "adversarial_weight")}
            | {"discriminator/real", "discriminator/fake"},
        ),
    ],
)
def test_the_terms_of_a_recipe_are_logged_alike_at_world_size_1_and_2(runs, recipe, terms):
    alone, shared = metrics(runs / f"{recipe}-w1"), metrics(runs / f"{recipe}-w2")
    names = {name.removeprefix("loss/") for name in alone[0] if name.startswith("loss/") and name.count("/") == 2}
    assert names == terms
    for name in terms:
        ours, theirs = ([line[f"loss/{name}"] for line in steps] for steps in (shared, alone))
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-7)


def test_the_terms_of_a_recipe_add_up_to_its_loss(runs):
    for line in metrics(runs / "motion-w1"):
        assert line["loss/motion"] == pytest.approx(line["loss/motion/x0"] + line["loss/motion/eps"], rel=1e-6)
    for line in metrics(runs / "appearance-w1"):
        hinge = (line["loss/discriminator/real"] + line["loss/discriminator/fake"]) / 2
        assert line["loss/discriminator"] == pytest.approx(hinge, rel=1e-6)
        if line["loss/generator/adversarial_weight"] == 0:
            both = line["loss/generator/l1"] + MOUTH_WEIGHT * line["loss/generator/mouth_l1"]
            assert line["loss/generator"] == pytest.approx(both, rel=1e-6)


def test_tensorboard_shows_terms(runs):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(runs / "appearance-w1" / "tensorboard"))
    events.Reload()
    assert "train/loss/generator/mouth_l1" in events.Tags()["scalars"]
