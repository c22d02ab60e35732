"""Faults of real processes: KILL at any moment, a rank that hangs, a disk that is full, an expert at chance."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from launch.follow.folder import status
from mytalk.machine import free_port
from mytalk.networks import identity, syncnet, weights
from mytalk.networks.motion.files import load_model
from tests.helpers.checkout import ROOT
from tests.helpers.disks import small_disk, with_shared_memory
from tests.helpers.training import TINY, curve, logged, tiny, train
from train.run_folder import checkpoint


@pytest.fixture(scope="module")
def whole(filmed_shards, tmp_path_factory) -> Path:
    """The run that nothing befalls, of 30 steps; a SyncNet that learns nothing; runs begun with its weights."""
    folder = tmp_path_factory.mktemp("whole")

    def job(recipe: str, name: str, *settings: str) -> list:
        tiny = str(ROOT / "tests" / "helpers" / f"tiny_{recipe}.yaml")
        return [recipe, tiny, [f"shards={filmed_shards}", f"run={folder / name}", "workers=0", *settings]]

    still = ("optimizer.lr=1e-12", "steps=1", "ema_decay=0")
    jobs = [
        job("motion", "whole", "steps=30", "validate_every=30"),
        job("motion", "from-model", f"init_from={folder / 'whole' / 'model'}", *still),
        job("motion", "from-run", f"init_from={folder / 'whole'}", *still),
        job("motion", "from-checkpoint", f"init_from={folder / 'whole' / 'checkpoints' / 'step-000030'}", *still),
        job("motion", "larger", f"init_from={folder / 'whole' / 'model'}", "model.layers=3", "model.hidden=48", *still),
        job("syncnet", "stuck", "optimizer.lr=1e-9", "steps=4", "validate_every=2"),
        job("identity", "identity", "steps=4"),
        job("identity", "identity-again", f"init_from={folder / 'identity' / 'model'}", *still),
        job("appearance", "appearance", "steps=4"),
        job("appearance", "appearance-again", f"init_from={folder / 'appearance' / 'model'}", *still),
    ]
    train(folder, 1, jobs)
    return folder


# KILL


@pytest.mark.parametrize("rounds", [60, pytest.param(1500, marks=pytest.mark.full)])
def test_invariant_5_killed_at_random_moments_of_a_write(tmp_path, command, rounds):
    """The newest checkpoint is always whole, and never older than the last that was committed."""
    done = command("-m", "tests.helpers.killed_writer", str(tmp_path / "run"), str(rounds), "5")
    assert done.returncode == 0, done.stderr
    torn, _, committed = map(int, re.findall(r"\d+", done.stdout))
    # On a machine that is busy elsewhere most are killed before they commit; with few of either nothing was tried.
    assert torn > rounds / 10
    assert committed > rounds / 10


def children(process: int) -> list[int]:
    """The processes that a process has started."""
    text = Path(f"/proc/{process}/task/{process}/children").read_text()
    return [int(number) for number in text.split()]


def started(typed: list[str], **environment: str) -> subprocess.Popen:
    """`python TYPED` in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, *typed],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def until(holds: Callable[[], bool], limit_s: float = 600.0) -> None:
    """Wait for something that must come."""
    deadline = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_killed_in_the_middle_it_continues_from_the_last_checkpoint(whole, filmed_shards, tmp_path, command):
    """Two ranks with their launcher, then one of two: that launcher goes on with one, to the end of the same curve."""
    run, chance = tmp_path / "run", random.Random(7)
    typed = ["motion", "--config", TINY, f"shards={filmed_shards}", f"run={run}", "steps=30", "checkpoint_every=2"]
    again = ["--restarts", "1", "--min-processes", "1"]
    pair = ["-m", "launch", "local", "--processes", "2", "--grace-s", "5", *again, "--", "train", *typed]
    for victims in ("all", "rank 1"):
        process = started(pair)
        steps = len(curve(run)) if (run / "metrics.jsonl").exists() else 0
        until(lambda steps=steps: logged(run, steps + 3) and checkpoint.newest(run) is not None)
        time.sleep(chance.uniform(0, 0.4))
        ranks = children(process.pid)
        if victims == "all":
            os.killpg(process.pid, signal.SIGKILL)
        else:
            os.kill(ranks[1], signal.SIGKILL)
        said, _ = process.communicate(timeout=600)
        until(lambda ranks=ranks: not any(Path(f"/proc/{rank}").exists() for rank in ranks))
        if victims == "all":
            assert process.returncode == -signal.SIGKILL, said
            assert 0 < checkpoint.step_of(checkpoint.newest(run)) < 30, said
            assert status(run).state == "killed"
    assert process.returncode == 0, said
    assert re.search("was killed by SIGKILL; starting again (now|in 5 s) at 1 processes instead of 2", said), said
    np.testing.assert_array_equal(curve(run, "keys"), curve(whole / "whole", "keys"))
    np.testing.assert_allclose(curve(run), curve(whole / "whole"), rtol=1e-4)
    assert not list((run / "checkpoints").glob(".tmp-*"))
    found = status(run)
    assert (found.state, found.step, found.world_size) == ("finished", 30, 1)
    reasons = [(one["why"], one["world_size"]) for one in found.restarts]
    assert reasons == [("killed without a word", 2), ("rank 1: was killed by SIGKILL", 1)]
    assert all(one["step"] % 2 == 0 for one in found.restarts)


# A rank that hangs


def hanging(folder: Path, shards: Path, *settings: str) -> Path:
    """Jobs of one run whose rank hangs, for tests.helpers.train_matrix."""
    run = [f"shards={shards}", f"run={folder / 'run'}", "watchdog_s=200", *settings]
    file = folder / "hanging.json"
    file.write_text(json.dumps([["odd", "", run]]))
    return file


def test_a_rank_that_hangs_ends_all_and_leaves_the_stacks_of_all(talker_shards, tmp_path):
    """The hung one is the one that is not waiting for the others."""
    file = hanging(tmp_path, talker_shards, "hangs=4/1")
    launch = [
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "tests.helpers.train_matrix",
    ]
    process = started([*launch, str(file)])
    said, _ = process.communicate(timeout=600)
    assert process.returncode != 0
    stacks = [(tmp_path / "run" / "stacks" / f"rank-0000{rank}.txt").read_text() for rank in (0, 1)]
    assert "going back through odd in step 4, where ranks wait for each other" in stacks[0].splitlines()[0]
    assert "computing step 4" in stacks[1].splitlines()[0]
    assert "in hang" in stacks[1]
    assert "in hang" not in stacks[0]
    assert "error: no progress for 4 s (rank 0, process " in said
    assert "rank 1, process " in said


def test_hung_after_a_checkpoint_it_may_be_run_again_but_not_for_ever(talker_shards, tmp_path, command):
    """75 where the run got further since it began, else 1: no launcher starts it again and again."""
    file = hanging(tmp_path, talker_shards, "hangs=5/0")
    first, second = (command("-m", "tests.helpers.train_matrix", str(file), timeout=600) for _ in range(2))
    assert first.returncode == 75, first.stderr
    assert "the same command continues" in first.stderr
    assert len([line for line in first.stderr.splitlines() if "error:" in line]) == 1
    assert second.returncode == 1, second.stderr
    assert "it had written no checkpoint since it began" in second.stderr


def test_a_call_that_holds_the_interpreter_is_ended_as_well(tmp_path, command):
    """No thread of Python's runs then, the watchdog's neither."""
    code = (
        "import ctypes, sys\nfrom pathlib import Path\nfrom train.engine import watchdog\nwatchdog.BACKSTOP_S = 0.5\n"
        "with watchdog.Watchdog('test', Path(sys.argv[1]), limit_s=1.0) as dog:\n"
        "    dog.alive('holding on')\n    ctypes.PyDLL(None).sleep(60)\n"
    )
    done = command("-c", code, str(tmp_path), timeout=600)
    assert done.returncode == 1, done.stderr
    assert 'File "<string>", line 7 in <module>' in (tmp_path / "stacks" / "rank-00000.hung").read_text()


def test_a_rank_that_stands_still_is_ended_by_its_launcher(filmed_shards, tmp_path):
    """Stopped by the system (SIGSTOP), it cannot end itself: the other one's watchdog does, and the launcher."""
    run = tmp_path / "run"
    typed = ["motion", "--config", TINY, f"shards={filmed_shards}", f"run={run}", "steps=4000", "checkpoint_every=1"]
    pair = ["-m", "launch", "local", "--processes", "2", "--grace-s", "2", "--"]
    process = started([*pair, "train", *typed, "watchdog_s=15", "validate_every=4000"])
    until(lambda: logged(run, 6))
    ranks = children(process.pid)
    os.kill(ranks[0], signal.SIGSTOP)
    said, _ = process.communicate(timeout=600)
    assert process.returncode == 75, said
    assert "rank 1: error: no progress for 15 s (rank 1, process " in said
    assert "rank 0 of 2 did not end and is being stopped" in said
    assert not any(Path(f"/proc/{rank}").exists() for rank in ranks)


# A disk that is full


def test_on_a_full_disk_training_goes_on_and_saves_when_there_is_room(whole, filmed_shards, tmp_path):
    """Checkpoints, metrics and TensorBoard are all on it. The old checkpoint stays, no line of metrics is lost."""
    with small_disk(tmp_path / "small", "8m") as remount:
        run = tmp_path / "small" / "run"
        typed = ["-m", "train", "motion", "--config", TINY, f"shards={filmed_shards}", f"run={run}", "steps=30"]
        process = started([*typed, "checkpoint_every=1", "keep_last=99", "validate_every=30", "log_every=1"])
        said = []
        for line in process.stdout:
            said.append(line)
            if "could not be written" in line:
                assert checkpoint.newest(run) is not None
                remount("size=500m")
                break
        said += list(process.stdout)
        assert process.wait(timeout=600) == 0, "".join(said)
        text = "".join(said)
        assert "stays: the disk is full" in text
        assert "Traceback" not in text
        np.testing.assert_allclose(curve(run), curve(whole / "whole"), rtol=1e-4)
        assert checkpoint.step_of(checkpoint.newest(run)) == 30
        checkpoint.load(checkpoint.newest(run))


def test_on_a_full_disk_training_may_stop_and_the_same_command_continues(whole, filmed_shards, tmp_path, command):
    with small_disk(tmp_path / "small", "8m") as remount:
        run = tmp_path / "small" / "run"
        typed = ["-m", "train", "motion", "--config", TINY, f"shards={filmed_shards}", f"run={run}", "steps=30"]
        typed += ["checkpoint_every=1", "keep_last=99", "validate_every=30", "failed_checkpoint=stop"]
        stopped = command(*typed, timeout=600)
        assert stopped.returncode == 1
        (line,) = [line for line in stopped.stderr.splitlines() if "error:" in line]
        assert "stays: the disk is full" in line
        assert "Traceback" not in stopped.stderr
        remount("size=500m")
        again = command(*typed, timeout=600)
        assert again.returncode == 0, again.stderr
        assert "resuming after step" in again.stdout
        np.testing.assert_allclose(curve(run), curve(whole / "whole"), rtol=1e-4)


# Beginning with trained weights


def report(run: Path) -> dict:
    return json.loads((run / "init_from.json").read_text())


@pytest.mark.parametrize("name", ["from-model", "from-run", "from-checkpoint"])
def test_a_run_begins_with_the_ema_weights_of_another(whole, name):
    """After a step that changes nothing, its model is the one it began with."""
    ours, theirs = (load_model(whole / run / "model").state_dict() for run in (name, "whole"))
    for key, value in theirs.items():
        np.testing.assert_allclose(ours[key].numpy(), value.numpy(), atol=1e-7, err_msg=key)
    told = report(whole / name)
    assert set(told["taken"]) == {f"motion/{key}" for key in theirs}
    assert told["summary"] == f"{len(theirs)} of {len(theirs)} tensors taken (100.0% of the values)"


def test_weights_that_do_not_fit_are_named_and_stay_as_initialised(whole):
    told = report(whole / "larger")
    assert {name.split("/")[1].split(".")[:2][1] for name in told["not_found"]} == {"2"}, "the third block"
    assert all(ours != theirs for ours, theirs in told["other_shape"].values())
    assert {tuple(map(tuple, shapes)) for shapes in told["other_shape"].values()} >= {((48, 32), (64, 32))}
    assert not set(told["taken"]) & {*told["not_found"], *told["other_shape"]}
    assert "another shape: " in told["summary"]
    assert "not found: " in told["summary"]


def test_an_exported_network_initialises_the_player_it_came_from(whole):
    told = report(whole / "identity-again")
    assert all(name.startswith("identity/encoder.") for name in told["taken"])
    assert told["not_found"] == ["identity/people_PE"]
    told = report(whole / "appearance-again")
    assert all(name.startswith("generator/") for name in told["taken"])
    assert all(name.startswith("discriminator/") for name in told["not_found"])
    assert told["unused"] == []


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda folder, whole: folder / "nowhere", "no model, checkpoint or run with checkpoints there"),
        (lambda folder, whole: whole / "stuck" / "model", "nothing fits the networks of motion: 0 of"),
    ],
    ids=["nothing", "another network"],
)
def test_init_from_an_unsuitable_folder_is_refused(whole, filmed_shards, tmp_path, command, made, said):
    typed = ["-m", "train", "motion", "--config", TINY, f"shards={filmed_shards}", f"run={tmp_path / 'run'}"]
    refused = command(*typed, f"init_from={made(tmp_path, whole)}")
    assert refused.returncode == 1
    assert said in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (tmp_path / "run" / "checkpoints").exists()


# Experts


def test_a_curve_at_chance_is_called_out_while_it_happens(whole):
    """A SyncNet that learns nothing: said at every validation, with what is wrong most often, and kept with the run."""
    found = (json.loads(line) for line in (whole / "stuck" / "metrics.jsonl").read_text().splitlines())
    warnings = [(line["step"], line["warning"]["text"]) for line in found if "warning" in line]
    assert [step for step, _ in warnings] == [2, 4]
    for step, text in warnings:
        assert text.startswith(f"syncnet after step {step} of 4: two-way accuracy AT CHANCE: 0.")
        assert "is the sound in time with the picture" in text


def test_a_model_states_its_required_score_and_is_refused_below_it(whole):
    """What is exported says so itself; `eval benchmark` asks it (tests/eval/test_benchmark.py)."""
    shown, words = weights.above_chance(whole / "stuck" / "model", "syncnet", syncnet.MEASURED)
    assert not shown
    assert words.startswith("AT CHANCE")
    facts = json.loads((whole / "identity" / "model" / "config.json").read_text())["facts"]["validation"]
    assert facts[identity.MEASURED]["required"] == 0.75
    weaker = whole / "weaker"
    shutil.copytree(whole / "identity" / "model", weaker)
    described = json.loads((weaker / "config.json").read_text())
    described["facts"]["validation"][identity.MEASURED] |= {"mean": 0.74, "ci95": [0.7, 0.78]}
    (weaker / "config.json").write_text(json.dumps(described))
    assert weights.above_chance(weaker, "identity", identity.MEASURED)[1].startswith(
        "BELOW WHAT IT MUST REACH (0.75): 0.74"
    )


# Launchers


LAUNCHERS = {
    "torchrun": ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "train"],
    "deepspeed": ["deepspeed.launcher.runner", "--num_gpus", "2", "--master_port", "PORT", "--module", "train"],
    "accelerate": [
        *("accelerate.commands.launch", "--use_deepspeed", "--num_processes", "2", "--main_process_port", "PORT"),
        *("-m", "train"),
    ],
}


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_every_launcher_starts_a_training(whole, filmed_shards, tmp_path, command, launcher):
    """Two ranks each, and the curve of one."""
    run = tmp_path / "run"
    words = [str(free_port()) if word == "PORT" else word for word in LAUNCHERS[launcher]]
    typed = ["motion", "--config", TINY, f"shards={filmed_shards}", f"run={run}", "steps=5", "zero_stage=2"]
    done = command("-m", *words, *typed, timeout=600, env={"DS_ACCELERATOR": "cpu"})
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "global batch 8 = 2 x 2 x 2" in done.stdout
    np.testing.assert_array_equal(curve(run, "keys"), curve(whole / "whole", "keys")[:5])
    np.testing.assert_allclose(curve(run), curve(whole / "whole")[:5], rtol=1e-4)
    assert load_model(run / "model") is not None


def test_a_shared_memory_that_is_too_small_is_one_line_with_the_fix(talker_shards, tmp_path):
    typed = ["syncnet", "--config", tiny("syncnet"), f"shards={talker_shards}", f"run={tmp_path / 'run'}", "workers=2"]
    train = [*with_shared_memory("64k"), sys.executable, "-m", "train", *typed]
    done = subprocess.run(train, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("python -m train syncnet: error: no room for a batch of")
    assert "--shm-size" in last
    assert "Traceback" not in done.stderr
