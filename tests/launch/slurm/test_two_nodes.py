"""`python -m launch slurm` on a real Slurm of two nodes. Skipped by name where Slurm is not installed."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time

import numpy as np
import pytest

from launch.follow.folder import status
from tests.helpers.training import TINY, curve, logged
from tests.helpers.two_nodes import NODES, TwoNodes

REVOKED_S = 2.0  # a job that starts again in the second in which it left its nodes is killed: "credential revoked"
TWO = ["--nodes", "2", "--gpus-per-node", "0"]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    with TwoNodes(tmp_path_factory.mktemp("slurm")) as started:
        yield started


def submitted(slurm: TwoNodes, command, *typed: str) -> str:
    """Submit; the job's number."""
    done = command("-m", "launch", "slurm", "--detach", *typed, env=slurm.environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()[1].rstrip(":")


@pytest.mark.full
def test_preempted_twice_and_requeued_it_is_as_if_nothing_had_been(slurm, talker_shards, tmp_path, command):
    """Gate: told by USR1 once, as before its time is up, and preempted by another job once; keys and losses are equal.

    Slurm would wait for two minutes before each restart; it is told not to.
    """
    run, alone = tmp_path / "run", tmp_path / "alone"
    words = ["train", "motion", "--config", TINY, f"shards={talker_shards}", "steps=120", "log_every=1"]
    words += ["validate_every=120", "checkpoint_every=120"]
    number = submitted(slurm, command, *TWO, "--log", str(tmp_path), "--", *words, f"run={run}")
    log = tmp_path / f"slurm-{number}.out"

    def runs_again(times: int) -> bool:
        if slurm.state(number) == "PENDING":
            with contextlib.suppress(subprocess.CalledProcessError):  # while it is still leaving the nodes
                slurm.ask("scontrol", "update", f"JobId={number}", "StartTime=now")
        return slurm.state(number) == "RUNNING" and f"Restarts={times}" in slurm.ask("scontrol", "show", "job", number)

    def restarted(times: int, at_step: int, disturb: list[str]) -> None:
        assert slurm.until(lambda: logged(run, at_step), 90), log.read_text()
        slurm.ask(*disturb)
        assert slurm.until(lambda: slurm.state(number) == "PENDING", 60), log.read_text()
        time.sleep(REVOKED_S)
        assert slurm.until(lambda: runs_again(times), 120), log.read_text()

    try:
        restarted(1, 5, ["scancel", "--signal=USR1", number])
        urgent = ["sbatch", "--partition=urgent", "--nodes=2", "--output=/dev/null", "--wrap", "sleep 2"]
        restarted(2, len(curve(run)) + 20, urgent)
        assert slurm.until(lambda: slurm.state(number) == "COMPLETED", 120), log.read_text()
    finally:
        slurm.ask("scancel", number)
    command("-m", "launch", "local", "--processes", "2", "--", *words, f"run={alone}", check=True)
    np.testing.assert_array_equal(curve(run, "keys"), curve(alone, "keys"))
    np.testing.assert_allclose(curve(run), curve(alone), rtol=1e-4)
    found = status(run)
    assert (found.state, found.world_size, found.starts) == ("finished", 2, 3)
    scored(slurm, run / "model", talker_shards, tmp_path / "scores", command)


def scored(slurm: TwoNodes, model, shards, out, command) -> None:
    """Scoring is a job of two nodes as well: its ranks share the clips, and one report comes of it."""
    words = ["--", "eval", "motion", "--model", str(model), "--shards", str(shards), "--split", "unseen"]
    more = ["--log", str(out.parent)]
    done = command("-m", "launch", "slurm", *TWO, *more, *words, "--out", str(out), env=slurm.environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "scored 2/2 people, 4/4 clips" in done.stdout
    assert (out / "report.json").exists()


@pytest.mark.full
def test_the_drill_by_jobs(slurm, talker_shards, tmp_path, command):
    words = ["--", "train", "motion", "--config", TINY, f"shards={talker_shards}"]
    more = ["--out", str(tmp_path), "--steps", "80", "--only", "term,rank,write,requeue", "--json"]
    done = command("-m", "launch", "drill", *TWO, *more, *words, env=slurm.environment)
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads(done.stdout)
    assert [one["fault"] for one in results if one["holds"]] == ["term", "rank", "write", "requeue"]
    assert all(one["keys_differ"] == 0 and one["starts"] >= 2 for one in results)
    assert slurm.ask("squeue", "--noheader") == "", "no job is left"


@pytest.mark.full
def test_an_array_starts_the_same_command_and_is_followed_to_its_end(slurm, talker_shards, tmp_path, command):
    words = ["--", "data_pipeline", "plan", str(talker_shards), "--recipe", "motion"]
    done = command("-m", "launch", "slurm", "--array", "3", "--log", str(tmp_path), *words, env=slurm.environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr.endswith("3 COMPLETED\n")
    logs = [path.read_text() for path in sorted(tmp_path.glob("slurm-*_[0-2].out"))]
    assert len(logs) == 3
    assert logs[0] == logs[1] == logs[2] != ""


@pytest.mark.full
def test_a_jobs_log_is_followed_and_its_exit_code_is_handed_on(slurm, tmp_path, command):
    words = ["--", "train", "motion", "no_such_key=1", f"run={tmp_path / 'run'}"]
    done = command("-m", "launch", "slurm", *TWO, "--log", str(tmp_path), *words, env=slurm.environment)
    assert done.returncode == 1
    assert "no setting 'no_such_key'" in done.stdout or "no_such_key" in done.stdout
    assert "FAILED, exit code 1:0" in done.stderr


@pytest.mark.full
def test_every_node_is_looked_at_before_a_training(slurm, talker_shards, tmp_path, command):
    words = ["train", "motion", "--config", TINY, f"shards={talker_shards}", f"run={tmp_path / 'run'}"]
    done = command("-m", "launch", "preflight", *TWO, "--json", "--", *words, env=slurm.environment)
    assert done.returncode == 0, done.stdout + done.stderr
    ranks = json.loads(done.stdout)["ranks"]
    assert [one["host"] for one in ranks] == list(NODES)
    assert all(one["reduce_bytes_per_s"] > 0 for one in ranks)
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"
