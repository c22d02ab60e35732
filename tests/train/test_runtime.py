"""What befalls a run of the loop: every pair of ways to stop and go on, steps that fail, disks that are full.

Real process groups of one and two ranks train a network of odd sizes (helpers/odd_recipe.py), many runs in each group.
"""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.training import curve, train
from train.run_folder import checkpoint

STAGES = (0, 1, 2, 3)
STEPS = 6
DECAY = "optimizer.weight_decay=0.1"  # two groups of parameters
FAST = ("optimizer.lr=1e-2", "optimizer.warmup_steps=2")
SOURCES = [(w, z) for w in (1, 2) for z in STAGES]


def job(shards: Path, run: Path, *settings: str, words: tuple[str, ...] = ()) -> list:
    """A run of the odd recipe, for tests.helpers.train_matrix."""
    return ["odd", "", [f"shards={shards}", f"run={run}", DECAY, *FAST, *settings], *words]


def loss(run: Path) -> np.ndarray:
    return curve(run, "loss/odd")


def lines(run: Path, key: str) -> list[dict]:
    """The lines of metrics.jsonl that hold a key."""
    found = (json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines())
    return [line for line in found if key in line]


def saved(run: Path) -> list[int]:
    """Steps of the checkpoints that are there."""
    return [checkpoint.step_of(path) for path in checkpoint.complete(run)]


def everything(run: Path, step: int) -> dict[str, np.ndarray]:
    """All tensors of a checkpoint, by kind and name."""
    kinds = checkpoint.load(run / "checkpoints" / checkpoint.folder_name(step)).tensors["odd"]
    return {f"{kind}/{name}": value.numpy() for kind, named in kinds.items() for name, value in named.items()}


@pytest.fixture(scope="module")
def begun(talker_shards, tmp_path_factory) -> Path:
    """Runs w<world size>z<stage> of three steps, and those told to stop before their first step: never-w2z<stage>."""
    folder = tmp_path_factory.mktemp("begun")
    for w in (1, 2):
        jobs = [job(talker_shards, folder / f"w{w}z{z}", f"zero_stage={z}", "steps=3") for z in STAGES]
        if w == 2:
            never = [(f"never-w2z{z}", f"zero_stage={z}") for z in STAGES]
            jobs += [job(talker_shards, folder / name, setting, words=("told",)) for name, setting in never]
        else:
            jobs.append(job(talker_shards, folder / "whole"))
        train(folder, w, jobs)
    return folder


def resumed(begun: Path, shards: Path, folder: Path, pairs: list) -> None:
    """Go on with each source at each target's world size and stage, in copies."""
    for w in (1, 2):
        jobs = []
        for source, (world, stage) in pairs:
            if world == w:
                run = folder / f"{source}-w{w}z{stage}"
                shutil.copytree(begun / source, run)
                jobs.append(job(shards, run, f"zero_stage={stage}"))
        train(folder, w, jobs)


def check_resumed(begun: Path, folder: Path, pairs: list) -> None:
    for source, (w, stage) in pairs:
        run = folder / f"{source}-w{w}z{stage}"
        np.testing.assert_array_equal(curve(run, "keys"), curve(begun / "whole", "keys"), err_msg=run.name)
        np.testing.assert_allclose(loss(run), loss(begun / "whole"), rtol=1e-5, err_msg=run.name)
        ours, theirs = everything(run, STEPS), everything(begun / "whole", STEPS)
        for name, values in theirs.items():
            np.testing.assert_allclose(ours[name], values, rtol=1e-4, atol=1e-6, err_msg=f"{run.name}: {name}")


def test_the_sizes_are_odd(begun):
    """Otherwise the pairs below would not show that padding is kept apart."""
    shapes = json.loads((begun / "whole" / "checkpoints" / "step-000006" / "checkpoint.json").read_text())["shapes"]
    counts = [int(np.prod(shape)) for shape in shapes["odd"].values()]
    assert sum(count % 2 for count in counts) >= 4
    assert sum(counts) % 2
    assert "frozen" not in shapes["odd"]


def test_stopped_and_resumed_at_another_world_size_and_stage(begun, talker_shards, tmp_path):
    """Two groups of parameters, odd sizes: each source goes on at another size and stage (all pairs: below)."""
    pairs = [(f"w{w}z{z}", (3 - w, (z + w) % 4)) for w, z in SOURCES]
    resumed(begun, talker_shards, tmp_path, pairs)
    check_resumed(begun, tmp_path, pairs)


@pytest.mark.full
def test_every_pair_of_world_sizes_and_stages(begun, talker_shards, tmp_path):
    pairs = [(f"w{w}z{z}", target) for w, z in SOURCES for target in SOURCES]
    resumed(begun, talker_shards, tmp_path, pairs)
    check_resumed(begun, tmp_path, pairs)


def test_saved_before_the_first_step(begun, talker_shards, tmp_path):
    """Told to stop while it starts, a run saves step 0, with moments of zero, and the same command continues."""
    for z in STAGES:
        assert saved(begun / f"never-w2z{z}") == [0]
        tensors = everything(begun / f"never-w2z{z}", 0)
        assert not any(values.any() for name, values in tensors.items() if name.startswith("exp_avg"))
        assert any(values.any() for name, values in tensors.items() if name.startswith("weight"))
    pairs = [(f"never-w2z{z}", (1 + z % 2, (z + 2) % 4)) for z in STAGES]
    resumed(begun, talker_shards, tmp_path, pairs)
    check_resumed(begun, tmp_path, pairs)


@pytest.fixture(scope="module")
def harmed(talker_shards, tmp_path_factory) -> Path:
    """Runs at world size 2 that something befalls, named after it."""
    folder = tmp_path_factory.mktemp("harmed")

    def befallen(name: str, *settings: str, words: tuple[str, ...] = ()) -> list:
        return job(talker_shards, folder / name, *settings, words=words)

    every = ("checkpoint_every=1", "keep_last=9")
    gone = "{1/0: loss, 3/1: loss, 4/0: gradient, 6/1: loss}"
    jobs = [
        befallen("whole", *every),
        *(befallen(f"offload-z{z}", f"zero_stage={z}", "offload_optimizer=true") for z in (1, 2, 3)),
        *(befallen(f"loss-z{z}", f"zero_stage={z}", "poisoned={3/1: loss}", *every) for z in STAGES),
        *(befallen(f"gradient-z{z}", f"zero_stage={z}", "poisoned={3/0: gradient}", *every) for z in STAGES),
        befallen("lost", "max_skipped_steps=3", f"poisoned={gone}", *every, words=("fails",)),
        befallen("stopped", "zero_stage=2", "signalled=2/1", words=("stops",)),
        befallen("stopped-validating", "zero_stage=3", "signalled=validation", "checkpoint_every=5", words=("stops",)),
        befallen("unwritten", "zero_stage=1", "unwritten=3/1", *every),
        befallen("unwritten-stop", "unwritten=3/0", "failed_checkpoint=stop", *every, words=("fails",)),
        befallen("unwritten-last", f"unwritten={STEPS}/-1", *every, words=("fails",)),
        befallen("slow", "slow_write_s=1", *every),
        befallen("offload-left", "zero_stage=2", "offload_optimizer=true", "steps=3"),
        befallen("kept", "checkpoint_every=1", "keep_last=1", "keep_every=2"),
        befallen("raw", "zero_stage=2", "deepspeed.zero_optimization.reduce_bucket_size=50"),
        befallen("bf16", "precision=bf16", "steps=2", words=()),
        befallen("fp16", "precision=fp16", "loss_scale=1048576", "steps=4", "zero_stage=1"),
    ]
    train(folder, 2, jobs)
    again = [
        befallen("stopped"),
        befallen("stopped-validating"),
        befallen("offload-left"),
        befallen("unwritten-stop", *every),
        befallen("unwritten-last", *every),
        befallen("bf16", "precision=fp16", "loss_scale=4096", "steps=4"),
        befallen("fp16", "precision=fp16", "steps=9", "loss_scale_steps=2"),
    ]
    train(folder, 1, again)
    train(folder, 1, [befallen("bf16", "precision=fp32")])
    return folder


PRECISIONS = """
import torch
from data_pipeline.sample.batch_plan import divide
from train.engine import deepspeed_engine, distributed
from train.config import LoopConfig, OptimizerConfig

ranks = distributed.join()
for stage in range(4):
    for precision, dtype in deepspeed_engine.AUTOCAST.items():
        config = LoopConfig(zero_stage=stage, precision=precision)
        module, batching = torch.nn.Linear(3, 2), divide(32, 32, 1)
        engine = deepspeed_engine.make_engine(module, OptimizerConfig(), config, batching, ranks.device)
        lower = precision != "fp32"
        for flag in {False, lower}:
            torch.set_autocast_enabled("cuda", flag)
            with torch.autocast("cpu", dtype, enabled=lower):
                made = engine(torch.ones(1, 3)).dtype
            assert made == dtype, f"{made} at ZeRO {stage}, {precision}, flag of CUDA {flag}"
distributed.leave()
"""


def test_the_engine_computes_in_the_precision_asked_for(command):
    """On a GPU too: DeepSpeed looks at CUDA's flag of autocast, and switches off what it did not begin itself."""
    done = command("-c", PRECISIONS)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_the_optimizer_in_the_machines_memory_changes_nothing(harmed, stage):
    told = json.loads((harmed / f"offload-z{stage}" / "deepspeed.json").read_text())["zero_optimization"]
    assert told["offload_optimizer"]["device"] == "cpu"
    np.testing.assert_allclose(loss(harmed / f"offload-z{stage}"), loss(harmed / "whole"), rtol=1e-5)


def test_optimizer_offload_may_be_switched_off_on_resuming(harmed):
    """Three steps with it on two ranks, three without on one."""
    np.testing.assert_allclose(loss(harmed / "offload-left"), loss(harmed / "whole"), rtol=1e-5)


def test_checkpoints_at_multiples_are_kept(harmed):
    assert saved(harmed / "kept") == [2, 4, 6]


def test_raw_deepspeed_keys_reach_it_and_change_no_loss(harmed):
    told = json.loads((harmed / "raw" / "deepspeed.json").read_text())["zero_optimization"]
    assert told["reduce_bucket_size"] == 50
    np.testing.assert_allclose(loss(harmed / "raw"), loss(harmed / "whole"), rtol=1e-5)


@pytest.mark.parametrize("what", ["loss", "gradient"])
@pytest.mark.parametrize("stage", STAGES)
def test_a_step_that_is_not_finite_is_skipped_by_all_ranks_and_counted(harmed, stage, what):
    """Loss or gradient of one example, on either rank: weights, moments and EMA stay to the bit; then it goes on."""
    run = harmed / f"{what}-z{stage}"
    steps = lines(run, "keys")
    assert [step["skipped"] for step in steps] == ["", "", "non-finite", "", "", ""]
    assert [step["skipped_steps"] for step in steps] == [0, 0, 1, 1, 1, 1]
    assert steps[2]["grad_norm/odd"] is None
    assert (steps[2]["loss/odd"] is None) == (what == "loss")
    before, after, later = (everything(run, step) for step in (2, 3, 4))
    for name, values in before.items():
        np.testing.assert_array_equal(after[name], values, err_msg=name)
    assert any((later[name] != values).any() for name, values in after.items())
    np.testing.assert_allclose(loss(run)[:2], loss(harmed / "whole")[:2], rtol=1e-5)
    assert checkpoint.read_facts(run / "checkpoints" / "step-000006")["adam_steps"] == {"odd": STEPS - 1}


def test_too_many_skipped_steps_stop_the_run(harmed):
    """The fourth is one too many; what was saved before is there, and which steps they were is in it."""
    assert len(loss(harmed / "lost")) == 6
    assert saved(harmed / "lost") == [1, 2, 3, 4, 5]
    assert checkpoint.read_facts(harmed / "lost" / "checkpoints" / "step-000005")["not_finite"] == [0, 2, 3]


@pytest.mark.parametrize("name", ["stopped", "stopped-validating"])
def test_one_rank_that_is_told_to_stop_stops_all_after_the_step(harmed, name):
    """Resumed at another world size and stage it is the same run. While it validates, it need not be waited for."""
    np.testing.assert_array_equal(curve(harmed / name, "keys"), curve(harmed / "whole", "keys"))
    np.testing.assert_allclose(loss(harmed / name), loss(harmed / "whole"), rtol=1e-5)


def test_a_checkpoint_that_one_rank_cannot_write_is_given_up_by_all(harmed):
    """Training says so and goes on; the one before stays, the next is whole, and nothing is left lying."""
    run = harmed / "unwritten"
    assert saved(run) == [1, 2, 4, 5, 6]
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == [
        checkpoint.folder_name(step) for step in (1, 2, 4, 5, 6)
    ]
    (warning,) = [line["warning"]["text"] for line in lines(run, "warning")]
    assert warning.startswith("the checkpoint after step 3 could not be written and that after step 2 stays: the disk")
    assert "training goes on" in warning
    np.testing.assert_allclose(loss(run), loss(harmed / "whole"), rtol=1e-5)


def test_a_checkpoint_that_cannot_be_written_may_stop_the_run_which_then_continues(harmed):
    assert len(loss(harmed / "unwritten-stop")) == STEPS
    for name in ("unwritten-stop", "unwritten-last"):
        assert saved(harmed / name) == list(range(1, STEPS + 1))
        np.testing.assert_allclose(loss(harmed / name), loss(harmed / "whole"), rtol=1e-5)


def test_a_slow_disk_delays_but_loses_nothing(harmed):
    """Each checkpoint is finished before the next is begun; how long that held up training is on record."""
    run = harmed / "slow"
    assert saved(run) == list(range(1, STEPS + 1))
    waits = [line["checkpoint"]["wait_s"] for line in lines(run, "checkpoint")]
    assert waits[0] < 0.1
    assert sum(waits[1:]) > 1
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    written = [event for event in events if event["event"] == "checkpoint"]
    assert [event["step"] for event in written] == saved(run)
    assert sum(event["written_s"] for event in written) > sum(waits), "also what training did not wait for"
    ours, theirs = everything(run, 3), everything(harmed / "whole", 3)
    for name, values in theirs.items():
        np.testing.assert_array_equal(ours[name], values, err_msg=f"{name}: later steps do not show through")


def test_precision_may_change_on_the_way(harmed):
    """bf16, then fp16, then fp32: no conversion, and each is near the fp32 run."""
    np.testing.assert_array_equal(curve(harmed / "bf16", "keys"), curve(harmed / "whole", "keys"))
    np.testing.assert_allclose(loss(harmed / "bf16"), loss(harmed / "whole"), rtol=0.05)
    assert not np.allclose(loss(harmed / "bf16")[1:4], loss(harmed / "whole")[1:4], rtol=1e-6)


def test_fp16_scales_the_loss_and_halves_on_overflow(harmed):
    """From 2^20 down until gradients fit; what overflows is skipped and not counted as lost; then doubled again."""
    steps = lines(harmed / "fp16", "keys")
    for before, after in itertools.pairwise(steps):  # a line has the scale of the next step
        if after["skipped"] == "overflow":
            assert after["loss_scale"] == before["loss_scale"] / 2
    assert steps[0]["skipped"] == "overflow"
    assert steps[0]["loss/odd"] is not None
    scales = [step["loss_scale"] for step in steps]
    facts = checkpoint.read_facts(harmed / "fp16" / "checkpoints" / "step-000009")
    assert facts["loss_scale"][0] == scales[-1]
    assert facts["not_finite"] == []
    assert facts["skipped"] == sum(step["skipped"] == "overflow" for step in steps) > 0
    taken = [step for step in steps if not step["skipped"]]
    assert taken, "it found a scale that fits"
    assert max(scales[4:]) > min(scales), "and tried a larger one after two good steps"
