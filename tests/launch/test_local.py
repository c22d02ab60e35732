"""`python -m launch local`: real processes that train, fail, are stopped and are killed."""

from __future__ import annotations

import json
import os
import pty
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launch import local
from tests.helpers.checkout import ROOT, stopped
from tests.helpers.dying_rank import AGAIN, LATE_S, OWN

TINY = str(ROOT / "tests" / "helpers" / "tiny_motion.yaml")
START = """
import sys; from launch import local; from launch.processes import supervisor
supervisor.SETTLE_S = 2 * {late_s}
sys.exit(local.start({words!r}, {processes}, grace_s={grace_s}))
"""


def typed(folder: Path, *rules: str, grace_s: float = 60) -> list[str]:
    """What starts a launcher of dying_rank, a rule for each rank (its own command starts train and eval only)."""
    words = ["tests.helpers.dying_rank", str(folder), *rules]
    return ["-c", START.format(words=words, processes=len(rules), grace_s=grace_s, late_s=LATE_S)]


def until(condition: Callable[[], bool], seconds: float = 20) -> bool:
    """Wait for a condition; whether it came true."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def alive(folder: Path) -> list[str]:
    """The ranks that have written their process ids and are still running."""
    return [path.name for path in folder.iterdir() if Path(f"/proc/{path.read_text()}").exists()]


def ready(folder: Path, ranks: int) -> Callable[[], bool]:
    """Whether so many ranks have written their process ids."""
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
    code, printed = stopped(words, lambda: len(logged(run)) >= 2)
    assert code == 75, printed
    assert "the same command continues" in printed
    assert len(logged(run)) < 20
    again = command(*words)
    assert again.returncode == 0, again.stderr
    assert "resuming after step" in again.stdout
    assert "= 2 x 2 x 2" in again.stdout, "two ranks share a global batch of 8"
    assert again.stderr.splitlines()[-1].startswith("train 20/20")
    command("-m", *training, f"run={tmp_path / 'alone'}", check=True)
    shared, alone = logged(run), logged(tmp_path / "alone")
    assert [step["step"] for step in shared] == list(range(1, 21))
    for key in ("keys", "loss/motion"):
        np.testing.assert_allclose([step[key] for step in shared], [step[key] for step in alone], rtol=1e-4)


@pytest.mark.parametrize("failing", [0, 1])
def test_the_first_that_fails_ends_the_others(tmp_path, command, failing):
    """Its error once, its exit code, and no process is left."""
    rules = ["wait", "wait", "wait"]
    rules[failing] = "exit 7"
    began = time.monotonic()
    done = command(*typed(tmp_path, *rules))
    assert time.monotonic() - began < 15
    assert done.returncode == 7
    assert done.stderr.count(OWN) == 1, done.stderr
    assert (f"rank 1: error: {OWN}" in done.stderr.splitlines()) == (failing == 1)
    assert done.stderr.splitlines()[-1].startswith(
        f"python -m launch local: rank {failing} of 3 ended with exit code 7"
    )
    assert done.stdout == "hello from 0 of 3\n", "the other ranks are silent"
    assert alive(tmp_path) == []


@pytest.mark.parametrize("late", [0, 1])
def test_the_reason_is_shown_not_the_lost_connection(tmp_path, command, late):
    """The rank that lost its peer ends before the one that is the cause: only the latter's error is shown."""
    rules = ["lose peer", "lose peer", "wait"]
    rules[late] = "late"
    done = command(*typed(tmp_path, *rules))
    assert done.returncode == 4, done.stderr
    assert done.stderr.count(OWN) == 1
    assert "Connection closed" not in done.stderr


def test_a_rank_that_a_library_aborts_is_not_the_cause(tmp_path, command):
    """So NCCL ends a process that has lost its peer."""
    done = command(*typed(tmp_path, "aborted", "late"))
    assert done.returncode == 4, done.stderr
    assert f"rank 1: error: {OWN}" in done.stderr


@pytest.mark.parametrize("rules", [("lose peer", "wait"), ("wait", "lose peer")])
def test_a_lost_connection_alone_is_shown(tmp_path, command, rules):
    done = command(*typed(tmp_path, *rules))
    assert done.returncode == 1
    assert done.stderr.count("Connection closed by peer") == 1


def test_a_bug_is_shown_with_its_traceback(tmp_path, command):
    done = command(*typed(tmp_path, "wait", "bug"))
    assert done.returncode == 1
    assert "rank 1: Traceback (most recent call last):" in done.stderr
    assert done.stderr.count("ZeroDivisionError: a bug") == 1


def test_a_rank_that_leaves_no_error_file_is_shown_by_its_last_lines(tmp_path, command):
    done = command(*typed(tmp_path, "wait", "silent 3"))
    assert done.returncode == 3
    assert f"rank 1: {OWN}" in done.stderr


def test_a_line_that_looks_like_an_error_is_passed_on(tmp_path, command):
    done = command(*typed(tmp_path, "warn", "warn"))
    assert done.returncode == 0
    assert done.stderr.count("ignored: RuntimeError") == 1


def test_a_rank_that_is_killed_is_named(tmp_path, command):
    done = command(*typed(tmp_path, "wait", "killed"))
    assert done.returncode == 128 + signal.SIGKILL
    assert "rank 1 of 2 was killed by SIGKILL" in done.stderr


def test_a_rank_that_ends_with_75_is_the_cause_for_those_that_lost_it(tmp_path, command):
    """Storage that cannot be reached ends one rank; the other only notices that its peer is gone."""
    done = command(*typed(tmp_path, "lose peer", "75"))
    assert done.returncode == 75, done.stderr
    assert f"rank 1: error: {AGAIN}" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_rank_that_stays_after_another_has_ended_with_75_is_ended(tmp_path, command):
    done = command(*typed(tmp_path, "ignore TERM", "75", grace_s=0.5))
    assert done.returncode == 75, done.stderr
    assert "rank 0 of 2 did not end and is being stopped" in done.stderr
    assert f"rank 1: error: {AGAIN}" in done.stderr
    assert alive(tmp_path) == []


def test_of_a_killed_rank_no_lost_connection_is_shown(tmp_path, command):
    """What rank 0 then prints of its peer follows from it, although neither has left a reason before."""
    done = command(*typed(tmp_path, "lose peer", "killed"))
    assert done.returncode == 128 + signal.SIGKILL
    assert "rank 1 of 2 was killed by SIGKILL" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_rank_that_does_not_end_in_time_is_killed(tmp_path, command):
    done = command(*typed(tmp_path, "ignore TERM", "exit 7", grace_s=0.5))
    assert done.returncode == 7
    assert alive(tmp_path) == []


def test_an_error_of_all_ranks_is_shown_once(tmp_path, command):
    training = ["train", "motion", "--config", TINY, "model.widht=64", f"run={tmp_path / 'run'}"]
    done = command("-m", "launch", "local", "--processes", "2", "--", *training)
    assert done.returncode == 1
    assert done.stderr.count("did you mean 'model.width'") == 1, done.stderr


def test_what_rank_0_has_printed_is_not_printed_again(tmp_path, command):
    """All ranks have the same error, but another than rank 0 ends first."""
    done = command(*typed(tmp_path, "error, then hang", "late"))
    assert done.returncode == 4
    assert done.stderr.count(OWN) == 1, done.stderr
    assert "rank 1 of 2 ended with exit code 4" in done.stderr


def test_the_cause_is_left_for_the_program_that_started_the_launcher(tmp_path, command):
    """The pipeline reads it."""
    ranks, error_file = tmp_path / "ranks", tmp_path / "error.json"
    ranks.mkdir()
    command(*typed(ranks, "wait", "exit 7"), env={"MYTALK_ERROR_FILE": str(error_file)})
    error = json.loads(error_file.read_text())
    assert (error["kind"], error["message"], error["exit_code"]) == ("user", OWN, 7)


def test_stopped_before_training_began_it_may_be_run_again(tmp_path):
    """One rank ends with 75, the other has no handler yet and dies of TERM."""
    code, printed = stopped(typed(tmp_path, "75 on TERM", "wait"), ready(tmp_path, 2))
    assert code == 75, printed
    assert alive(tmp_path) == []


def test_a_killed_launcher_leaves_no_process(tmp_path):
    code, _ = stopped(typed(tmp_path, "ignore TERM", "ignore TERM"), ready(tmp_path, 2), signal.SIGKILL)
    assert code == -signal.SIGKILL
    assert until(lambda: not alive(tmp_path), 5)


def test_on_a_terminal_rank_0_has_a_terminal(tmp_path):
    """So that its progress stays one moving line."""
    master, slave = pty.openpty()
    words = ["-c", "import sys; print(sys.stderr.isatty(), sys.stdout.isatty())"]
    (tmp_path / "probe_terminal.py").write_text(words[1])
    started = START.format(words=["probe_terminal"], processes=2, grace_s=5, late_s=1)
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path}"}
    process = subprocess.Popen(
        [sys.executable, "-c", started], stdin=slave, stdout=slave, stderr=slave, env=environment, cwd=ROOT
    )
    os.close(slave)
    assert process.wait(20) == 0
    assert os.read(master, 1000) == b"True True\r\n"
    os.close(master)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--processes", "2"], "nothing to start; name it after --"),
        (["--processes", "2", "--"], "nothing to start; name it after --"),
        (["--processes", "2", "--", "os", "motion"], "must be train or eval"),
        (["--processes", "0", "--", "train", "motion"], "--processes must be at least 1"),
        (["--processes", "1", "--threads", "0", "--", "train", "motion"], "--threads must be at least 1"),
    ],
)
def test_what_cannot_be_started_is_refused_in_one_line(command, words, message):
    refused = command("-m", "launch", "local", *words)
    assert refused.returncode == 1
    assert message in refused.stderr
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


@settings(max_examples=50, deadline=None)
@given(words=st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), max_size=4))
def test_the_dry_run_prints_what_a_shell_would_start_whatever_is_in_a_word(words):
    words = ["train", *words, "; $(exit 9)", "a'b", "line\n#SBATCH --wrap=x"]
    lines = local.shown(words, 2, 3)
    for number, line in enumerate(lines):
        env, *rest = shlex.split(line)
        told = dict(word.split("=", 1) for word in rest[: len(local.TOLD)])
        assert (env, rest[len(local.TOLD) :]) == ("env", [sys.executable, "-m", *words])
        assert (told["RANK"], told["WORLD_SIZE"], told["OMP_NUM_THREADS"]) == (str(number), "2", "3")
