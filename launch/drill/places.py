"""Where a drill trains: by which launcher, and how its ranks are reached and told. Slurm: launch/drill/by_slurm.py."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

from launch.clusters.facts import cluster_of
from launch.drill import act
from launch.hosts import hostfile
from launch.hosts.connection import Ssh
from mytalk.command import EXIT_RUN_AGAIN, UserError

PROCESSES = 2  # on this machine
ANSWER_S = 60.0
GRACE = ("--grace-s", "5")
NO_SCHEDULER = {"requeue": "no scheduler takes the machines back there"}


class NotTried(Exception):
    """A fault that could not be brought about, and why."""


class Launched:
    """A place whose launcher runs on this machine and ends its ranks when it is ended."""

    left_out: ClassVar[dict[str, str]]  # faults that cannot be brought about there, and why
    steps: ClassVar[int]  # of the training, by default
    kills_by_itself: ClassVar[bool] = False  # whether `act` kills all ranks: they do not die with the launcher
    processes: int

    def tell(self, run: Path, process: subprocess.Popen, number: signal.Signals) -> None:
        """Send training a signal, as the scheduler or user of this place would."""
        process.send_signal(number)

    def took_it(self, code: int, said: bool) -> bool:
        """Whether training ended, or continued, as told. `said`: its log says that a signal has stopped it."""
        return code == EXIT_RUN_AGAIN

    def hurry(self, run: Path) -> None:
        """Called while the drill waits for training: a place may shorten the wait."""

    def end(self, run: Path, process: subprocess.Popen) -> None:
        """End what still runs."""
        process.kill()


class Here(Launched):
    """This machine."""

    left_out = NO_SCHEDULER
    steps = 16

    def __init__(self, processes: int | None):
        self.processes = PROCESSES if processes is None else processes

    def launcher(self, run: Path) -> list[str]:
        """The launcher's name and options for a run folder."""
        return ["local", "--processes", str(self.processes), *GRACE]

    def act(self, run: Path, what: str, rank: int | None = None) -> dict[int, int]:
        """Do something to the ranks of a run (launch/drill/act.py)."""
        return act.act(str(run), what, rank)


class ByHosts(Launched):
    """Hosts that ssh reaches."""

    left_out = NO_SCHEDULER | {
        "node": "a host is lost only by its power",
        "storage": "the shards of this machine would have to be served to the others",
    }
    steps = 200  # to reach a rank by ssh takes seconds, in which training goes on

    def __init__(self, args: argparse.Namespace, file: Path):
        cluster, self.file = cluster_of(args.cluster), file
        self.hosts, self.cluster, self.ssh_config = hostfile.read(file), args.cluster, args.ssh_config
        slots = sum(host.slots for host in self.hosts)
        self.processes = slots if args.processes is None else args.processes
        if self.processes > slots:
            raise UserError(f"--processes {self.processes} are more than the {slots} slots of {file}")
        self.ssh = Ssh(cluster.folder or os.getcwd(), cluster.python or sys.executable, args.ssh_config)

    def launcher(self, run: Path) -> list[str]:
        """The launcher's name and options for a run folder."""
        named = {"--cluster": self.cluster, "--ssh-config": self.ssh_config}
        more = [word for option, value in named.items() if value for word in (option, value)]
        return ["ssh", "--hostfile", str(self.file), "--processes", str(self.processes), *GRACE, *more]

    def act(self, run: Path, what: str, rank: int | None = None) -> dict[int, int]:
        """Do something to the ranks of a run, on all hosts at once."""

        def ask(host: hostfile.Host) -> dict[int, int]:
            return found_by(host.name, what, self.ssh.typed(host.name, act_words(run, what, rank)))

        with ThreadPoolExecutor(len(self.hosts)) as pool:
            return {rank: pid for found in pool.map(ask, self.hosts) for rank, pid in found.items()}


def act_words(run: Path, what: str, rank: int | None) -> list[str]:
    """What does it, after `python -m`."""
    return ["launch.drill.act", str(run), what, *([] if rank is None else [str(rank)])]


def found_by(where: str, what: str, typed: Sequence[str]) -> dict[int, int]:
    """The ranks that a command of `act` has found, a line for each machine. Raises NotTried where it failed."""
    try:
        done = subprocess.run(typed, stdin=subprocess.DEVNULL, capture_output=True, timeout=ANSWER_S, check=False)
    except subprocess.TimeoutExpired:
        raise NotTried(f"{where} did not answer within {ANSWER_S:g} s") from None
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {done.returncode}"]
        raise NotTried(f"{where} could not {what} the ranks: {lines[-1]}")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return {int(rank): pid for one in found for rank, pid in one.items()}


def options(parser: argparse.ArgumentParser) -> None:
    """The options that name other machines than those of Slurm."""
    parser.add_argument("--hostfile", type=Path, metavar="FILE", help="drill on these machines, as of `launch ssh`")
    parser.add_argument("--cluster", metavar="NAME", help="facts of your machines: its hostfile, or with --nodes Slurm")
    parser.add_argument("--ssh-config", metavar="FILE", help="configuration of ssh, instead of yours")
