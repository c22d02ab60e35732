"""A drill by jobs of Slurm: its ranks are reached by steps of the same job, and told as Slurm tells them."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

from launch.drill import places
from launch.drill.places import Launched, NotTried
from launch.slurm import machines
from launch.slurm.follow import records
from mytalk.command import UserError

NUMBER = re.compile(r"^job (\d+): ", re.MULTILINE)  # as `launch slurm` prints it
PROGRAMS = ("sbatch", "srun", "scancel", "scontrol")


class BySlurm(Launched):
    """Nodes of Slurm. `requeue` is what preemption does; a job has all of its nodes or none, so nothing shrinks."""

    left_out: ClassVar[dict[str, str]] = {
        "node": "Slurm starts a job again on as many nodes, never on fewer",
        "storage": "the shards of this machine would have to be served to the nodes",
    }
    steps = 150  # to reach a rank takes seconds, in which training goes on
    kills_by_itself = True

    def __init__(self, args: argparse.Namespace):
        cluster, ranks = machines.described(args)
        if missing := [name for name in PROGRAMS if shutil.which(name) is None]:
            raise UserError(f"there is no {missing[0]} here; go to a login node of the cluster")
        self.pending: set[tuple[str, str]] = set()  # starts that were seen to wait: job, and how often it was requeued
        self.nodes, self.processes = args.nodes, args.nodes * ranks
        self.python = sys.executable if cluster.image and cluster.container else cluster.python or sys.executable
        names = ("nodes", "gpus_per_node", "ranks_per_node", "cpus_per_rank", "cluster", "partition", "account")
        given = {name: getattr(args, name) for name in names}
        if args.gpus_per_node:
            given["ranks_per_node"] = None
        self.asked = [f"--{name.replace('_', '-')}={value}" for name, value in given.items() if value is not None]

    def launcher(self, run: Path) -> list[str]:
        """The launcher's name and options for a run folder; it follows the job to its end."""
        return ["slurm", *self.asked, f"--name=drill-{run.name}", f"--log={run.parent}"]

    def number(self, run: Path) -> str:
        """The job that trains into a run folder now. Raises NotTried where there is none."""
        log = run.with_suffix(".log")
        numbers = NUMBER.findall(log.read_text(errors="replace")) if log.exists() else []
        if not numbers:
            raise NotTried(f"no job was submitted; see {log}")
        return numbers[-1]

    def act(self, run: Path, what: str, rank: int | None = None) -> dict[int, int]:
        """Do something to the ranks of a run (launch/drill/act.py), by a step of its job on every node."""
        number = self.number(run)
        asked = [f"--jobid={number}", "--overlap", f"--nodes={self.nodes}", "--ntasks-per-node=1", "--cpus-per-task=1"]
        words = [self.python, "-m", *places.act_words(run, what, rank)]
        return places.found_by(f"job {number}", what, ["srun", *asked, f"--chdir={os.getcwd()}", *words])

    def tell(self, run: Path, process: subprocess.Popen, number: signal.Signals) -> None:
        """TERM is what ends a job, with KILL some time later; USR1 is sent before its time is up."""
        asked = [] if number == signal.SIGTERM else [f"--signal={number.name.removeprefix('SIG')}"]
        self.slurm("scancel", *asked, self.number(run))

    def took_it(self, code: int, said: bool) -> bool:
        """Whether training wrote its checkpoint: a job that USR1 stopped is requeued, and ends well then."""
        return said

    def requeue(self, run: Path) -> None:
        """Take the nodes back, as for a job that is more urgent."""
        self.slurm("scontrol", "requeue", self.number(run))

    def slurm(self, *typed: str) -> None:
        """One of Slurm's commands. Raises NotTried where it is refused."""
        done = subprocess.run(typed, capture_output=True, text=True, check=False)
        if done.returncode:
            raise NotTried(f"{typed[0]}: {(done.stderr.strip().splitlines() or ['refused'])[-1]}")

    def hurry(self, run: Path) -> None:
        """A job that was requeued need not wait for the two minutes that Slurm has it wait.

        Only from the second look on: Slurm kills a job that starts in the very second in which it left its nodes.
        """
        try:
            job = records(self.number(run))[0]
        except (UserError, NotTried):
            return
        start = job["JobId"], job.get("Restarts", "0")
        if job["JobState"] != "PENDING" or start[1] == "0":
            return
        if start in self.pending:
            typed = ["scontrol", "update", f"JobId={job['JobId']}", "StartTime=now"]
            subprocess.run(typed, capture_output=True, check=False)  # refused while it is still leaving its nodes
        self.pending.add(start)

    def end(self, run: Path, process: subprocess.Popen) -> None:
        """Cancel the job: it does not end with the command that follows it."""
        process.kill()
        try:
            if records(self.number(run))[0]["JobState"] not in ("COMPLETED", "FAILED", "CANCELLED"):
                self.slurm("scancel", self.number(run))
        except (UserError, NotTried) as error:
            print(f"look for a job that still runs (squeue): {error}", file=sys.stderr)
