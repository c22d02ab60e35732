"""`python -m launch local`: real processes that train, fail, are stopped and are killed."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from launch import local
from tests.helpers.checkout import ROOT, stopped

TINY = str(ROOT / "tests" / "helpers" / "tiny_motion.yaml")
AGAIN = "python -m tests dying_rank: error: the storage cannot be reached; the same command continues when it can"
OWN = "python -m tests dying_rank: error: the disk is full; free some space"
START = "import sys; from launch import local; sys.exit(local.start({words!r}, {processes}, grace_s={grace_s}))"


def typed(folder: Path, *rules: str, grace_s: float = 60) -> list[str]:
    """What starts a launcher of dying_rank, a rule for each rank (its own command starts train and eval only)."""
    words = ["tests.helpers.dying_rank", str(folder), *rules]
    return ["-c", START.format(words=words, processes=len(rules), grace_s=grace_s)]


def until(true: Callable[[], bool], seconds: float = 20) -> bool:
    """Wait for it; whether it came."""
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        time.sleep(0.02)
    return true()


def alive(folder: Path) -> list[str]:
    """The ranks that said who they are and are still running."""
    return [path.name for path in folder.iterdir() if Path(f"/proc/{path.read_text()}").exists()]


def ready(folder: Path, ranks: int) -> Callable[[], bool]:
    """Whether so many ranks have said who they are."""
    return lambda: len([path for path in folder.iterdir() if path.read_text()]) == ranks


def logged(run: Path) -> list[dict]:
    """The steps of metrics.jsonl."""
    metrics = run / "metrics.jsonl"
    lines = metrics.read_text().splitlines() if metrics.exists() else []
    return [step for step in map(json.loads, lines) if "keys" in step]


def test_two_ranks_stopped_and_resumed_have_the_losses_of_one(talker_shards, tmp_path, command):
    """TERM to the launcher: both finish the step, 75 comes out, and the same command continues to the same end."""
    run = tmp_path / "run"
    training = ["train", "motion", "--config", TINY, f"shards={talker_shards}", "steps=20"]
    words = ["-m", "launch", "local", "--processes", "2", "--", *training, f"run={run}"]
    code, said = stopped(words, lambda: len(logged(run)) >= 2)
    assert code == 75, said
    assert "the same command continues" in said
    assert len(logged(run)) < 20
    again = command(*words)
    assert again.returncode == 0, again.stderr
    assert "resuming after step" in again.stdout
    assert "= 2 x 2 x 2" in again.stdout, "two ranks share a global batch of 8"
    assert again.stderr.splitlines()[-1].startswith("train 20/20")
    command("-m", *training, f"run={tmp_path / 'alone'}", check=True)
    ours, theirs = logged(run), logged(tmp_path / "alone")
    assert [step["step"] for step in ours] == list(range(1, 21))
    for key in ("keys", "loss/motion"):
        np.testing.assert_allclose([step[key] for step in ours], [step[key] for step in theirs], rtol=1e-4)


@pytest.mark.parametrize("failing", [0, 1])
def test_the_first_that_fails_ends_the_others(tmp_path, command, failing):
    """Its error once, its exit code, and nobody is left."""
    rules = ["wait", "wait", "wait"]
    rules[failing] = "fail 7"
    began = time.monotonic()
    done = command(*typed(tmp_path, *rules))
    assert time.monotonic() - began < 15
    assert done.returncode == 7
    assert done.stderr.count(OWN) == 1, done.stderr
    assert ("rank 1: " + OWN in done.stderr.splitlines()) == (failing == 1)
    assert done.stderr.splitlines()[-1].startswith(
        f"python -m launch local: rank {failing} of 3 ended with exit code 7"
    )
    assert done.stdout == "hello from 0 of 3\n", "the other ranks are silent"
    assert alive(tmp_path) == []


@pytest.mark.parametrize("late", [0, 1])
def test_the_reason_is_shown_not_the_lost_connection(tmp_path, command, late):
    """The rank that lost its peer dies before the one that is to blame: only the latter's error is shown."""
    rules = ["peer", "peer", "wait"]
    rules[late] = "late"
    done = command(*typed(tmp_path, *rules))
    assert done.returncode == 4, done.stderr
    assert done.stderr.count(OWN) == 1
    assert "Connection closed" not in done.stderr


def test_a_lost_connection_alone_is_shown(tmp_path, command):
    done = command(*typed(tmp_path, "peer", "wait"))
    assert done.returncode == 1
    assert done.stderr.count("Connection closed by peer") == 1


def test_what_only_looks_like_an_error_is_passed_on(tmp_path, command):
    done = command(*typed(tmp_path, "warn", "warn"))
    assert done.returncode == 0
    assert done.stderr.count("ignored: RuntimeError") == 1


def test_a_rank_that_is_killed_is_named(tmp_path, command):
    done = command(*typed(tmp_path, "wait", "fail 9"))
    assert done.returncode == 128 + signal.SIGKILL
    assert "rank 1 of 2 was killed by SIGKILL" in done.stderr


def test_a_rank_that_says_75_takes_those_who_lost_it_along(tmp_path, command):
    """Storage that cannot be reached ends one rank; the other only notices that its peer is gone."""
    done = command(*typed(tmp_path, "peer", "75"))
    assert done.returncode == 75, done.stderr
    assert f"rank 1: {AGAIN}" in done.stderr
    assert "Traceback" not in done.stderr


def test_who_stays_when_another_has_ended_to_run_again_is_ended(tmp_path, command):
    done = command(*typed(tmp_path, "deaf", "75", grace_s=0.5))
    assert done.returncode == 75, done.stderr
    assert "rank 0 of 2 did not end and is being stopped" in done.stderr
    assert f"rank 1: {AGAIN}" in done.stderr
    assert alive(tmp_path) == []


def test_a_rank_killed_before_any_has_spoken_shows_no_lost_connection(tmp_path, command):
    """What rank 0 then says of its peer follows from it, although neither had said anything before."""
    done = command(*typed(tmp_path, "peer", "fail 9"))
    assert done.returncode == 128 + signal.SIGKILL
    assert "rank 1 of 2 was killed by SIGKILL" in done.stderr
    assert "Traceback" not in done.stderr


def test_who_does_not_end_in_time_is_killed(tmp_path, command):
    done = command(*typed(tmp_path, "deaf", "fail 7", grace_s=0.5))
    assert done.returncode == 7
    assert alive(tmp_path) == []


def test_an_error_of_all_ranks_is_shown_once(tmp_path, command):
    training = ["train", "motion", "--config", TINY, "model.widht=64", f"run={tmp_path / 'run'}"]
    done = command("-m", "launch", "local", "--processes", "2", "--", *training)
    assert done.returncode == 1
    assert done.stderr.count("did you mean 'model.width'") == 1, done.stderr


def test_what_rank_0_has_said_is_not_said_again(tmp_path, command):
    """All ranks have the same error, but another than rank 0 ends first."""
    done = command(*typed(tmp_path, "said", "late"))
    assert done.returncode == 4
    assert done.stderr.count(OWN) == 1, done.stderr
    assert "rank 1 of 2 ended with exit code 4" in done.stderr


def test_stopped_before_training_began_it_may_be_run_again(tmp_path):
    """One rank says 75, the other has no handler yet and dies of TERM."""
    code, said = stopped(typed(tmp_path, "again", "wait"), ready(tmp_path, 2))
    assert code == 75, said
    assert alive(tmp_path) == []


def test_a_killed_launcher_leaves_nobody(tmp_path):
    code, _ = stopped(typed(tmp_path, "deaf", "deaf"), ready(tmp_path, 2), signal.SIGKILL)
    assert code == -signal.SIGKILL
    assert until(lambda: not alive(tmp_path), 5)


def test_on_a_terminal_rank_0_has_a_terminal(tmp_path):
    """So that its progress stays one moving line."""
    master, slave = pty.openpty()
    words = ["-c", "import sys; print(sys.stderr.isatty(), sys.stdout.isatty())"]
    (tmp_path / "probe_terminal.py").write_text(words[1])
    started = START.format(words=["probe_terminal"], processes=2, grace_s=5)
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path}"}
    process = subprocess.Popen(
        [sys.executable, "-c", started], stdin=slave, stdout=slave, stderr=slave, env=environment, cwd=ROOT
    )
    os.close(slave)
    assert process.wait(20) == 0
    assert os.read(master, 1000) == b"True True\r\n"
    os.close(master)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--processes", "2"], "nothing to start; name it after --"),
        (["--processes", "2", "--"], "nothing to start; name it after --"),
        (["--processes", "2", "--", "os", "motion"], "must be train or eval"),
        (["--processes", "0", "--", "train", "motion"], "--processes must be at least 1"),
        (["--processes", "1", "--threads", "0", "--", "train", "motion"], "--threads must be at least 1"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(command, words, said):
    refused = command("-m", "launch", "local", *words)
    assert refused.returncode == 1
    assert said in refused.stderr
    assert refused.stderr.count("\n") == 1


def test_help_has_an_example(command):
    shown = command("-m", "launch", "local", "--help")
    assert shown.returncode == 0
    assert "python -m launch local --processes 8 -- train motion --config" in shown.stdout


def test_the_environment_of_a_rank(monkeypatch):
    """As torchrun would set it; the user's number of threads wins over the share of the cores."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    first, second = local.environments(2, None)
    cores = len(os.sched_getaffinity(0))
    assert first["OMP_NUM_THREADS"] == str(max(1, cores // 2))
    assert (second["RANK"], second["LOCAL_RANK"], second["WORLD_SIZE"], second["LOCAL_WORLD_SIZE"]) == tuple("1122")
    assert first["MASTER_ADDR"] == "127.0.0.1"
    assert first["MASTER_PORT"] == second["MASTER_PORT"]
    assert local.environments(10 * cores, None)[0]["OMP_NUM_THREADS"] == "1"
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert local.environments(2, None)[0]["OMP_NUM_THREADS"] == "3"
    assert local.environments(2, 5)[0]["OMP_NUM_THREADS"] == "5"
