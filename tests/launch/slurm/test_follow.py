"""Following a job of Slurm: its states by what scontrol prints, its log, and Ctrl-C."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from launch.follow import attend
from launch.slurm import follow
from mytalk.command import UserError
from tests.helpers.checkout import stopped
from tests.helpers.slurm_stand_ins import stand_in

RECORD = (
    "JobId=42 JobName=x UserId=me(1) Priority=1 JobState={state} Reason={reason} Dependency=(null) Requeue=1 "
    "Restarts={restarts} BatchFlag=1 ExitCode={code} RunTime=00:00:01 StartTime=2026-11-27T10:00:00 NodeList=n[1-2] "
    "Comment=JobState=FAILED StdErr=/x StdIn=/dev/null StdOut={log} Power=\n"
)


def record(state: str, code: str = "0:0", restarts: int = 0, reason: str = "None", log: str = "/a b/c=1.out", **more):
    line = RECORD.format(state=state, code=code, restarts=restarts, reason=reason, log=log)
    return line.replace("JobName", "".join(f"{key}={value} " for key, value in more.items()) + "JobName")


@pytest.mark.parametrize(
    ("line", "words", "code"),
    [
        (record("PENDING", reason="Priority"), "PENDING (Priority)", None),
        (record("PENDING", restarts=1, reason="BeginTime"), "BeginTime, not before 2026-11-27T10:00:00), star", None),
        (record("RUNNING"), "RUNNING on n[1-2]", None),
        (record("RUNNING", restarts=2), "RUNNING on n[1-2], started 3 times", None),
        (record("COMPLETED"), "COMPLETED, exit code 0:0", 0),
        (record("FAILED", "3:0"), "FAILED", 3),
        (record("FAILED", "0:9"), "FAILED", 137),
        (record("CANCELLED"), "CANCELLED", 1),
        (record("TIMEOUT"), "TIMEOUT", 1),
    ],
)
def test_a_jobs_state_and_exit_code(line, words, code):
    found = follow.of_job(follow.parsed(line))
    assert words in found.words
    assert found.code == code


def test_the_log_is_found_whatever_is_in_its_path():
    assert follow.parsed(record("RUNNING"))["StdOut"] == "/a b/c=1.out"


def of_array(*lines: str) -> tuple[str, int | None]:
    found = follow.of_array([follow.parsed(line) for line in lines])
    return found.words, found.code


def test_an_array_is_as_its_elements_are():
    waiting = record("PENDING", ArrayTaskId="2-4,7%2")
    assert of_array(record("RUNNING", ArrayTaskId="1"), waiting) == ("4 PENDING, 1 RUNNING", None)
    done = record("COMPLETED", ArrayTaskId="0")
    assert of_array(done, record("COMPLETED", ArrayTaskId="1")) == ("2 COMPLETED", 0)
    failed = record("FAILED", "2:0", log="/l/42_1.out", ArrayTaskId="1")
    assert of_array(done, failed) == ("1 COMPLETED, 1 FAILED; see /l/42_1.out", 2)


@pytest.fixture
def told(tmp_path, monkeypatch) -> Path:
    """A stand-in for scontrol prints the first line of this file, and drops it unless it is the last."""
    lines = tmp_path / "records"
    script = 'f=$RECORDS; [ -s "$f" ] || { echo "Invalid job id specified" >&2; exit 1; }\nhead -n 1 "$f"\n'
    script += '[ "$(wc -l < "$f")" -gt 1 ] && sed -i 1d "$f"\ntrue\n'
    stand_in(tmp_path / "scontrol", f"#!/bin/bash\n{script}")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("RECORDS", str(lines))
    return lines


def test_what_slurm_forgets_is_as_it_was_seen(told):
    """It forgets what has ended some minutes ago; a job that it never knew is one line."""
    with pytest.raises(UserError, match="Slurm does not know job 42"):
        follow.Job("42").ask()
    array, alone = follow.Job("42"), follow.Job("42")
    told.write_text(record("COMPLETED", ArrayTaskId="0"))
    array.ask()
    told.write_text(record("RUNNING"))
    alone.ask()
    told.write_text(record("RUNNING", ArrayTaskId="1"))
    assert [one["JobState"] for one in array.ask()] == ["COMPLETED", "RUNNING"]
    told.write_text("")
    with pytest.raises(UserError, match="Invalid job id"):
        alone.ask()  # how it ended is not known


def test_a_requeued_job_is_followed_to_its_real_end(told, tmp_path, monkeypatch, capfd):
    log = tmp_path / "slurm-42.out"
    log.write_text("begins\n")
    states = [("RUNNING", 0), ("COMPLETED", 0), ("PENDING", 1), ("RUNNING", 1), ("COMPLETED", 1), ("COMPLETED", 1)]
    told.write_text("".join(record(state, restarts=n, log=str(log)) for state, n in [states[0], *states]))
    monkeypatch.setattr(attend, "POLL_S", 0.01)
    monkeypatch.setattr(attend, "ASK_S", 0.01)
    assert follow.follow("42") == 0
    said = capfd.readouterr()
    assert said.out == "begins\n"
    assert [line.split(":")[1].split()[0].strip(",") for line in said.err.splitlines()] == [
        one for one, _ in states[:5]
    ]


def test_ctrl_c_leaves_the_job_running_and_says_how_to_come_back(told, tmp_path):
    log, gone = tmp_path / "slurm-42.out", tmp_path / "scancel-was-called"
    stand_in(tmp_path / "scancel", f"#!/bin/bash\ntouch {gone}\n")
    log.write_text("begins\n")
    told.write_text(record("RUNNING", log=str(log)))
    read = tmp_path / "read"
    stand_in(tmp_path / "scontrol", f'#!/bin/bash\ntouch {read}\ncat "$RECORDS"\n')
    typed = ["-m", "launch", "slurm", "--follow", "42"]
    code, said = stopped(typed, read.exists, signal.SIGINT)
    assert code == 130
    assert said.endswith("job 42 goes on without this terminal; come back with: python -m launch slurm --follow 42\n")
    assert not gone.exists()
