"""A drill by jobs of Slurm, among stand-ins of its commands. On a real one: tests/launch/slurm/test_two_nodes.py."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from launch.drill import command as drill
from launch.drill.by_slurm import BySlurm
from launch.drill.places import NotTried
from launch.slurm import command as slurm
from launch.slurm.job import job_of
from mytalk.command import UserError
from tests.helpers.slurm_stand_ins import stand_in

# Of a step it is the command alone that is run; the others write down what they were told.
SRUN = '#!/bin/bash\nprintf "%s\\0" "$@" > "$RECORD/srun"\nwhile [[ $1 == --* ]]; do shift; done\nexec "$@"\n'
NOTED = '#!/bin/bash\necho "${0##*/} $*" >> "$RECORD/told"\nexit "${REFUSES:-0}"\n'
SCONTROL = NOTED.replace("exit", '[ "$1" = --oneliner ] && echo "JobId=8 Restarts=$RESTARTS JobState=$STATE"\nexit')


@pytest.fixture
def there(tmp_path, monkeypatch) -> BySlurm:
    """Two nodes, and a training whose second job has been submitted."""
    for name, text in {"srun": SRUN, "sbatch": NOTED, "scancel": NOTED, "scontrol": SCONTROL}.items():
        (tmp_path / "bin").mkdir(exist_ok=True)
        stand_in(tmp_path / "bin" / name, text)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setenv("RECORD", str(tmp_path))
    (tmp_path / "term.log").write_text("job 7: 2 x 1 processes\n0: train\njob 8: 2 x 1 processes\n")
    return BySlurm(drill.arguments().parse_args(["--nodes", "2", "--gpus-per-node", "0", "--ranks-per-node", "3"]))


def test_the_launcher_takes_what_the_drill_was_told(there, tmp_path):
    words = there.launcher(tmp_path / "term")
    job = job_of(slurm.arguments().parse_args([*words[1:], "--restarts", "2", "--", "train", "motion"]))
    assert (words[0], job.name, job.nodes, job.ranks_per_node, job.restarts) == ("slurm", "drill-term", 2, 3, 2)
    assert (job.log, there.processes) == (str(tmp_path), 6)


def test_ranks_are_reached_by_a_step_of_the_newest_job(there, tmp_path, monkeypatch):
    run = tmp_path / "term"
    waits = [sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()", "train", f"run={run}"]
    rank = subprocess.Popen(waits, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={"RANK": "5"})
    try:
        assert rank.stdout is not None
        rank.stdout.readline()
        assert there.act(run, "SIGKILL", 5) == {5: rank.pid}
        assert rank.wait(10) == -signal.SIGKILL
    finally:
        rank.kill()
        rank.communicate()
    told = (tmp_path / "srun").read_text().split("\0")
    assert told[:5] == ["--jobid=8", "--overlap", "--nodes=2", "--ntasks-per-node=1", "--cpus-per-task=1"]
    assert there.act(run, "list") == {}
    monkeypatch.setattr(there, "python", "/bin/false")
    with pytest.raises(NotTried, match="job 8 could not list the ranks: exit code 1"):
        there.act(run, "list")
    with pytest.raises(NotTried, match="no job was submitted"):
        there.act(tmp_path / "rank", "list")


def test_training_is_told_as_slurm_tells_it(there, tmp_path, monkeypatch):
    run, process = tmp_path / "term", subprocess.Popen(["/bin/true"])
    monkeypatch.setenv("STATE", "PENDING")
    for restarts in ("0", "1"):
        monkeypatch.setenv("RESTARTS", restarts)
        there.hurry(run)
        assert "update" not in (tmp_path / "told").read_text(), "it left its nodes a moment ago"
        there.hurry(run)
    there.tell(run, process, signal.SIGTERM)
    there.tell(run, process, signal.SIGUSR1)
    there.requeue(run)
    monkeypatch.setenv("STATE", "RUNNING")
    there.hurry(run)
    there.end(run, process)
    process.wait()
    told = [line for line in (tmp_path / "told").read_text().splitlines() if "--oneliner" not in line]
    update = "scontrol update JobId=8 StartTime=now"
    assert told == [update, "scancel 8", "scancel --signal=USR1 8", "scontrol requeue 8", "scancel 8"]
    monkeypatch.setenv("REFUSES", "1")
    with pytest.raises(NotTried, match="scontrol: refused"):
        there.requeue(run)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("--only node", "'node' cannot be drilled there: Slurm starts a job again on as many nodes"),
        ("--processes 2", "leave --hostfile and --processes out"),
        ("--ranks-per-node 0", "--ranks-per-node must be at least 1"),
        ("--ranks-per-node 5", "cannot be shared by 10 processes"),
        ("--cluster nowhere", "no cluster file"),
    ],
)
def test_what_cannot_be_drilled_is_refused(there, typed, said):
    with pytest.raises(UserError, match=said):
        drill.run(drill.arguments().parse_args(["--nodes", "2", "--gpus-per-node", "0", *typed.split()]))


def test_without_slurm_it_says_where_to_go(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match="there is no sbatch here; go to a login node"):
        drill.run(drill.arguments().parse_args(["--nodes", "2", "--gpus-per-node", "0"]))
