"""Where a drill trains: by which launcher, and how its ranks are reached."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

from launch.clusters.facts import cluster_of
from launch.drill import act
from launch.hosts import hostfile
from launch.hosts.connection import Ssh
from mytalk.command import UserError

PROCESSES = 2  # on this machine
ANSWER_S = 60.0


class Here:
    """This machine."""

    left_out: ClassVar[dict[str, str]] = {}  # faults that cannot be brought about there, and why
    steps = 16

    def __init__(self, processes: int | None):
        self.processes = PROCESSES if processes is None else processes

    def launcher(self) -> list[str]:
        """The launcher's name and options."""
        return ["local", "--processes", str(self.processes)]

    def act(self, run: Path, what: str, rank: int | None = None) -> dict[int, int]:
        """Do something to the ranks of a run (launch/drill/act.py)."""
        return act.act(str(run), what, rank)


class ByHosts:
    """Hosts that ssh reaches."""

    left_out: ClassVar[dict[str, str]] = {
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

    def launcher(self) -> list[str]:
        """The launcher's name and options."""
        named = {"--cluster": self.cluster, "--ssh-config": self.ssh_config}
        more = [word for option, value in named.items() if value for word in (option, value)]
        return ["ssh", "--hostfile", str(self.file), "--processes", str(self.processes), *more]

    def act(self, run: Path, what: str, rank: int | None = None) -> dict[int, int]:
        """Do something to the ranks of a run, on all hosts at once."""

        def ask(host: hostfile.Host) -> dict[int, int]:
            words = ["launch.drill.act", str(run), what, *([] if rank is None else [str(rank)])]
            typed = self.ssh.typed(host.name, words)
            done = subprocess.run(typed, stdin=subprocess.DEVNULL, capture_output=True, timeout=ANSWER_S, check=False)
            if done.returncode:
                said = (done.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {done.returncode}"])[
                    -1
                ]
                raise UserError(f"{host.name} could not {what} the ranks: {said}")
            return {int(rank): pid for rank, pid in json.loads(done.stdout).items()}

        with ThreadPoolExecutor(len(self.hosts)) as pool:
            return {rank: pid for found in pool.map(ask, self.hosts) for rank, pid in found.items()}


def options(parser: argparse.ArgumentParser) -> None:
    """The options that name other machines."""
    parser.add_argument("--hostfile", type=Path, metavar="FILE", help="drill on these machines, as of `launch ssh`")
    parser.add_argument("--cluster", metavar="NAME", help="facts of your machines, which may name the hostfile")
    parser.add_argument("--ssh-config", metavar="FILE", help="configuration of ssh, instead of yours")


def place(args: argparse.Namespace) -> Here | ByHosts:
    """Where the command line says. UserError for a cluster that names no hosts."""
    file = args.hostfile or Path(cluster_of(args.cluster).hostfile)
    if file.name:
        return ByHosts(args, file)
    if args.cluster is not None:
        raise UserError(f"--cluster {args.cluster} names no hostfile; add --hostfile FILE")
    return Here(args.processes)
