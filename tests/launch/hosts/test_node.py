"""`python -m launch node`: torchrun's agent around ranks that end in chosen ways."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launch.hosts import node, rank
from mytalk.machine import free_port
from tests.helpers.checkout import ROOT
from tests.helpers.dying_rank import OWN

NASTY = "a $$ ${local_rank} $(exit 9) ' \" ; \\ \n#"


def supervised(folder: Path, *rules: str, **more) -> subprocess.Popen:
    """A host's agent with its ranks, told by stdin as `launch ssh` does."""
    words = ["tests.helpers.dying_rank", str(folder), *rules]
    job = {"words": words, "processes": len(rules), "id": "x", "node_rank": None, "grace_s": 5, **more}
    job |= {"endpoint": f"127.0.0.1:{free_port()}", "address": "127.0.0.1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "launch", "node", "--supervised"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    process.stdin.write(json.dumps(job).encode() + b"\n")
    process.stdin.flush()
    return process


def rest(process: subprocess.Popen) -> tuple[int, dict, list[str]]:
    """Its exit code, how it says that it ended, its other lines."""
    lines = process.stdout.read().decode().splitlines()
    process.wait(60)
    told = [json.loads(line.split(" ", 2)[2]) for line in lines if line.startswith(node.ENDED)]
    return process.returncode, told[0] if told else {}, [line for line in lines if not line.startswith(node.ENDED)]


def wait_for(folder: Path, count: int) -> None:
    deadline = time.monotonic() + 60
    while len([path for path in folder.iterdir() if path.read_text()]) < count and time.monotonic() < deadline:
        time.sleep(0.02)


def test_a_ranks_exit_code_and_reason_come_out_and_lines_tell_their_rank(tmp_path):
    folder = tmp_path / NASTY
    folder.mkdir()
    code, told, lines = rest(supervised(folder, "wait", "exit 7"))
    assert code == told["code"] == 7
    assert told["error"]["message"] == OWN
    assert "[0] hello from 0 of 2" in lines
    assert f"[1] python -m tests dying_rank: error: {OWN}" in lines
    assert not any(Path(f"/proc/{path.read_text()}").exists() for path in folder.iterdir())


def test_a_signal_reaches_the_ranks_and_75_comes_out(tmp_path):
    process = supervised(tmp_path, "75 on TERM", "75 on TERM")
    wait_for(tmp_path, 2)
    process.stdin.write(b"SIGTERM\n")
    process.stdin.flush()
    assert rest(process)[0] == 75


@pytest.mark.parametrize("how", ["stdin ends", "killed"])
def test_without_its_launcher_or_its_agent_no_rank_is_left(tmp_path, how):
    process = supervised(tmp_path, "ignore TERM", "ignore TERM")
    wait_for(tmp_path, 2)
    if how == "killed":
        process.kill()
    else:
        process.stdin.close()
    process.wait(60)
    deadline = time.monotonic() + 10
    pids = [path.read_text() for path in tmp_path.iterdir()]
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
    process.stdout.close()


@pytest.mark.parametrize(
    ("codes", "sent", "expected"),
    [
        ([], set(), 0),
        ([75], set(), 75),
        ([75, -15], {15}, 75),
        ([-15, -15], {15}, 75),
        ([143], {15}, 75),
        ([-15, 1], {15}, 1),
        ([-9, -15], set(), 137),
        ([3], {10}, 3),
    ],
)
def test_the_exit_code_of_all_from_those_of_the_ranks(codes, sent, expected):
    assert node.exit_code(codes, sent) == expected


@pytest.mark.parametrize(
    ("code", "told", "after", "expected"),
    [(75, False, 6, 75), (75, False, 5, 70), (75, True, 5, 75), (1, False, 5, 1)],
)
def test_75_without_a_newer_checkpoint_is_a_crash_for_what_knows_exit_codes_alone(
    tmp_path, monkeypatch, code, told, after, expected
):
    def checkpoint(step: int) -> None:
        (tmp_path / f"checkpoints/step-{step:06d}").mkdir(parents=True, exist_ok=True)
        (tmp_path / f"checkpoints/step-{step:06d}/checkpoint.json").touch()

    checkpoint(5)
    monkeypatch.setattr(node, "start", lambda job: (checkpoint(after), node.Ended(code, {}, told))[1])
    words = ["--nodes", "1", "--node-rank", "0", "--processes", "1", "--endpoint", "a:1"]
    assert node.run(node.arguments().parse_args([*words, "--", "train", "motion", f"run={tmp_path}"])) == expected


@given(words=st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), max_size=5))
def test_a_rank_becomes_the_command_with_its_words_unchanged(tmp_path_factory, words):
    folder, became = tmp_path_factory.mktemp("node"), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "execv", lambda *given: became.append(given))
        patch.setattr(rank.ctypes, "CDLL", lambda _: type("libc", (), {"prctl": staticmethod(lambda *_: 0)}))
        patch.setenv(rank.WORDS, json.dumps(words))
        patch.setenv(rank.FOLDER, str(folder))
        patch.setenv("LOCAL_RANK", "3")
        patch.delenv("MYTALK_ERROR_FILE", raising=False)
        rank.main()
        assert os.environ.pop("MYTALK_ERROR_FILE") == str(rank.error_file(folder, 3))
    assert became == [(sys.executable, [sys.executable, "-m", *words])]
    assert int(rank.pid_file(folder, 3).read_text()) == os.getpid()


def test_a_host_that_the_environment_describes(tmp_path, command):
    """As Kubernetes does it: two hosts of one process each."""
    words = ["-m", "launch", "node", "--", "eval", "no-such-command"]
    shared = {"PET_NNODES": "1", "PET_NPROC_PER_NODE": "1", "PET_NODE_RANK": "0", "PET_MASTER_ADDR": "127.0.0.1"}
    done = command(*words, env={**shared, "PET_MASTER_PORT": str(free_port())}, timeout=100)
    assert done.returncode == 2, done.stderr
    assert "[0] python -m eval: error: no command 'no-such-command'" in done.stdout + done.stderr
    half = command(*words, env={"PET_NNODES": "2"}, timeout=100)
    assert half.returncode == 1
    assert half.stderr.count("\n") == 1
    assert "PET_NODE_RANK and PET_MASTER_ADDR is not set" in half.stderr
    assert signal.Signals.SIGUSR1 in node.PASSED_ON


def test_a_signal_before_the_ranks_begin_ends_them_with_75(tmp_path):
    """As Ctrl-C while torch is imported and hosts wait for each other: nobody could be told, and none may train."""
    process = supervised(tmp_path, "exit 7", "exit 7")
    process.stdin.write(b"SIGINT\n")  # lies in the pipe before the agent is there
    process.stdin.flush()
    code, told, lines = rest(process)
    assert code == told["code"] == 75, lines
    assert not list(tmp_path.iterdir()), "no rank has become the command"
