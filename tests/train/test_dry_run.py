"""`python -m train RECIPE --dry-run`: its figures against closed forms and against trainings that were measured."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

from data_pipeline.shards import reader, video_reader
from data_pipeline.shards.manifest import Manifest
from tests.helpers.checkout import ROOT
from tests.helpers.training import PLAYERS, STAGES, tiny

LARGER = {  # so that weights outweigh the rest
    "motion": ("model.width=192", "model.hidden=768", "model.layers=4"),
    "appearance": ("model.channels=[32,128]", "model.discriminator_channels=24", "adversarial_from_step=0"),
}
TOLERANCE = 0.10


def said(command, recipe: str, shards, *words: str, **more) -> dict:
    typed = ["-m", "train", recipe, "--config", tiny(recipe), f"shards={shards}", "--dry-run", "--json", *words]
    done = command(*typed, **more)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_figures_of_a_run_that_has_not_begun(talker_shards, tmp_path, command):
    """Without the shards' tars: nothing but the manifest is read. Nothing is written."""
    shards = tmp_path / "shards"
    shards.mkdir()
    for name in ("manifest.json", "manifest.parquet"):
        shutil.copy(talker_shards / name, shards / name)
    run = tmp_path / "run"
    found = said(command, "motion", shards, f"run={run}", "--world-size", "8", "global_batch=32")
    assert not run.exists()
    assert found["batch"] == [8, 2, 2]
    assert found["world_sizes"] == [1, 2, 4, 8, 16, 32]
    assert found["steps_per_epoch"] == sum(found["clips"].values()) / 32
    parameters = found["parameters"]["motion"]
    for stage in STAGES:
        memory = found["memory_bytes"][str(stage)]
        share = 4 * parameters / 8
        assert memory["host"] == pytest.approx(4 * share, rel=0.05), "weights, two moments and EMA of an eighth"
        states = 4 * parameters * (4 if stage == 0 else 1 if stage < 3 else 0) + share
        assert memory["peak"] > states + memory["host"]
    # A linear layer takes 2 operations a weight and value forward, twice that backward; windows have 12 to 24 frames.
    assert 6 * parameters * 1 < found["flops_per_example"] < 6 * parameters * 60


def test_blank_clips_have_the_shape_of_real_ones(filmed_shards):
    asked = [reader.ReadRequest(0, member, 2, 9) for member in ("landmarks", "audio")]
    shapes = []
    for blank in (False, True):
        manifest = Manifest.load(filmed_shards)
        manifest.blank = blank
        values = [*reader.read(manifest, asked), *video_reader.read_frames(manifest, [(0, [1, 4])])]
        shapes.append([(one.shape, one.dtype) for one in values])
    assert shapes[0] == shapes[1]


def test_a_world_size_that_does_not_divide_is_refused(talker_shards, command):
    words = ["-m", "train", "motion", "--config", tiny("motion"), f"shards={talker_shards}", "--dry-run"]
    refused = command(*words, "--world-size", "3")
    assert refused.returncode == 1
    assert "global_batch 8 cannot be shared by 3 processes" in refused.stderr
    assert command(*words, "--world-size", "0").returncode == 1


@pytest.mark.full
@pytest.mark.parametrize("recipe", PLAYERS)
def test_every_recipe_says_what_it_takes(filmed_shards, command, recipe):
    found = said(command, recipe, filmed_shards, "--world-size", "2")
    assert {*found["parameters"]} == {*PLAYERS[recipe]}
    assert found["flops_per_example"] > 0
    assert all(memory["peak"] > memory["host"] > 0 for memory in found["memory_bytes"].values())


@pytest.mark.full
@pytest.mark.parametrize("recipe", LARGER)
def test_memory_is_within_a_tenth_of_what_two_ranks_take_at_every_stage(filmed_shards, tmp_path, command, recipe):
    """Trainings of two steps, with data, validation and checkpoints; malloc says what they took."""
    settings = [f"shards={filmed_shards}", *LARGER[recipe]]
    found = said(command, recipe, filmed_shards, "--world-size", "2", *LARGER[recipe])
    out, launch = tmp_path / "measured", ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [sys.executable, *launch, "-m", "tests.helpers.measured_memory", str(out), recipe, tiny(recipe), *settings],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    measured = json.loads(out.read_text())
    ratios = {stage: found["memory_bytes"][stage]["peak"] / measured[stage] for stage in measured}
    assert [*ratios] == [str(stage) for stage in STAGES]
    assert all(abs(ratio - 1) < TOLERANCE for ratio in ratios.values()), (ratios, measured)
