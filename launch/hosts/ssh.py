"""One training on several machines that ssh reaches, without a scheduler.

Every start begins with a look at each host (code, versions, a free port); then torchrun's agent starts the ranks of
each (launch/hosts/node.py), and they find each other by its c10d rendezvous, which lives on the first host of a start.
The launcher itself watches: one failure ends all; with --restarts it starts them again, without hosts that are gone,
at the largest world size that divides the global batch. So any host may die, the first too, but not the one where the
launcher runs.
"""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from launch.clusters.facts import Cluster, cluster_of
from launch.follow.restart import Ended, Policy, keep_running, next_world_size
from launch.hosts import connection, hostfile, rank
from launch.hosts.connection import NO_CONNECTION, Node, Ssh
from launch.hosts.hostfile import Host
from launch.words import at_least, check_words, global_batch, is_training, run_folder
from mytalk import command
from mytalk.command import EXIT_DONE, EXIT_RUN_AGAIN, UserError

PROGRAM = "python -m launch ssh"
FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
POLL_S = 0.1
SETTLE_S = 3.0  # others that fail in this time may know the reason


def arguments() -> argparse.ArgumentParser:
    """The command line of `python -m launch ssh`."""
    parser = command.parser(
        PROGRAM,
        "Run a command on several machines that ssh reaches without a password, in this folder with this Python, "
        "which every one must have, beside the shards and the run folder. Code and versions are compared first. TERM, "
        "INT and USR1 are passed on to all ranks: training writes a checkpoint and ends with 75. One failure ends all.",
        f"{PROGRAM} --hostfile hosts --restarts 3 -- train motion --config configs/paper/motion.yaml "
        "shards=data/mine run=runs/motion identity=runs/identity/model",
    )
    parser.add_argument(
        "--cluster", metavar="NAME", help="facts of your machines: configs/clusters/NAME.yaml, or a file"
    )
    parser.add_argument("--hostfile", type=Path, metavar="FILE", help="a line `NAME slots=N` for each machine")
    parser.add_argument("--processes", type=int, metavar="N", help="how many in all (default: all slots)")
    parser.add_argument(
        "--restarts",
        type=int,
        default=0,
        metavar="N",
        help="start a training again that ended with 75 or crashed, up to N times without getting further (0)",
    )
    parser.add_argument(
        "--min-processes",
        type=int,
        metavar="M",
        help="go on without hosts that are gone, with at least M processes (default: all must be there)",
    )
    parser.add_argument("--ssh-config", metavar="FILE", help="configuration of ssh, instead of yours")
    parser.add_argument("--grace-s", type=float, default=60.0, help="seconds from TERM to KILL")
    parser.add_argument(
        "--alive-s", type=int, default=15, help="seconds; a host that is silent three times as long is gone"
    )
    parser.add_argument("--dry-run", action="store_true", help="print what would run, and where; connects to nothing")
    parser.add_argument("words", nargs="*", metavar="-- FOLDER COMMAND ...", help="train or eval, and what follows")
    return parser


@dataclass
class Launch:
    """What the launcher knows over all starts."""

    ssh: Ssh
    words: list[str]
    cluster: Cluster
    grace_s: float
    hosts: list[Host]  # that still have a place
    nodes: list[Node] = field(default_factory=list)
    told: list[str] = field(default_factory=list)  # names of the signals that came

    def forward(self, number: int, _: object) -> None:
        """Handler of signals: pass it on to every host."""
        self.told.append(signal.Signals(number).name)
        for node in self.nodes:
            node.signal(signal.Signals(number).name)

    def job(self, host: Host, hosts: list[Host], endpoint: str, run_id: str) -> dict[str, Any]:
        """What a host is told to start."""
        return {
            "words": self.words,
            "nodes": len(hosts),
            "processes": host.slots,
            "endpoint": endpoint,
            "node_rank": None,
            "hosts_rendezvous": host is hosts[0],
            "id": run_id,
            "address": self.ssh.address(host.name),
            "grace_s": max(1, round(self.grace_s)),
            "environment": {**self.cluster.variables(), rank.HOST: host.name},
        }

    def start(self, size: int) -> Ended:
        """Look at the hosts, start `size` processes on them, and wait until all have ended."""
        hosts, lock = hostfile.shared(self.hosts, size), threading.Lock()
        found = connection.probed(self.ssh, hosts, str(run_folder(self.words) or "."))
        connection.refuse_unlike(hosts, found)
        endpoint, run_id = f"{self.ssh.address(hosts[0].name)}:{found[0]['port']}", secrets.token_hex(6)
        shown = ", ".join(f"{host.name} x {host.slots}" for host in hosts)
        print(f"{PROGRAM}: {size} processes on {shown}; code {found[0]['code']}", file=sys.stderr, flush=True)
        before = {number: signal.signal(number, self.forward) for number in FORWARDED}
        try:
            jobs = [self.job(host, hosts, endpoint, run_id) for host in hosts]
            self.nodes = [connection.opened(self.ssh, host, job, lock) for host, job in zip(hosts, jobs)]
            for name in self.told:  # while they were opened
                for node in self.nodes:
                    node.signal(name)
            self._wait()
        finally:
            for node in self.nodes:
                node.kill()
            for number, handler in before.items():
                signal.signal(number, handler)
        return self._ended()

    def _wait(self) -> None:
        """Until all have ended; once one has failed the others get TERM, and KILL after the grace."""
        failed_at = asked_at = 0.0
        while [node for node in self.nodes if not node.ended()]:
            time.sleep(POLL_S)
            now = time.monotonic()
            if any(node.ended() and node.code() != EXIT_DONE for node in self.nodes):
                failed_at = failed_at or now
            if failed_at and not asked_at and now - failed_at > SETTLE_S:
                asked_at = now
                for node in self.nodes:
                    node.signal("SIGTERM")
            if asked_at and now - asked_at > self.grace_s:
                for node in self.nodes:
                    node.kill()

    def _ended(self) -> Ended:
        """How the whole ended, and which hosts are gone."""
        failed = sorted((node for node in self.nodes if node.code() != EXIT_DONE), key=Node.order)
        if not failed:
            return Ended(EXIT_DONE, told=bool(self.told))
        gone = [node.host for node in failed if node.told is None and not self.ssh.reaches(node.host.name)]
        self.hosts = [host for host in self.hosts if host.name not in [one.name for one in gone]]
        cause = failed[0]
        if gone and cause.order() > 1:
            cause = next(node for node in failed if node.host in gone)
        code, error = cause.code(), (cause.told or {}).get("error", {})
        how = error.get("message") or f"ended with exit code {code}"
        if cause.host in gone:
            code, how = NO_CONNECTION, "the host is gone"
        elif code == EXIT_RUN_AGAIN and not error:
            how = "stopped after a checkpoint"
        lost = sum(host.slots for host in gone)
        return Ended(code, error.get("kind", ""), f"{cause.host.name}: {how}", bool(self.told), lost)

    def fit(self, size: int, least: int) -> int:
        """The world size of the next start, on the hosts that are left."""
        slots = sum(host.slots for host in self.hosts)
        return size if slots >= size else next_world_size(global_batch(self.words), slots, least)


def run(args: argparse.Namespace) -> int:
    """Start on all hosts and wait; UserError for what cannot be started."""
    check_words(args.words)
    at_least(1, processes=args.processes, min_processes=args.min_processes, alive_s=args.alive_s)
    at_least(0, restarts=args.restarts, grace_s=args.grace_s)
    if args.restarts and not is_training(args.words):
        raise UserError("--restarts is for train; type an eval command again, it continues by itself")
    cluster = cluster_of(args.cluster)
    file = args.hostfile or (Path(cluster.hostfile) if cluster.hostfile else None)
    if file is None:
        raise UserError("no hosts; name them with --hostfile FILE, or in the file of --cluster")
    hosts = hostfile.read(file)
    slots = sum(host.slots for host in hosts)
    size = args.processes or slots
    if size > slots:
        raise UserError(f"--processes {size} are more than the {slots} slots of {file}")
    if is_training(args.words) and global_batch(args.words) % size:
        fits = next_world_size(global_batch(args.words), size)
        raise UserError(
            f"global_batch {global_batch(args.words)} cannot be shared by {size} processes; type --processes {fits}"
        )
    ssh = Ssh(cluster.folder or os.getcwd(), cluster.python or sys.executable, args.ssh_config, args.alive_s)
    launch = Launch(ssh, list(args.words), cluster, args.grace_s, hosts)
    if args.dry_run:
        return show(launch, size)
    least = args.min_processes or size
    policy = Policy(run_folder(args.words), args.restarts)
    if not args.restarts:
        ended = launch.start(size)
        policy.note(ended, policy.after(ended), size)
        if ended.code != EXIT_DONE:
            print(f"{PROGRAM}: {ended.reason}", file=sys.stderr, flush=True)
        return ended.code
    return keep_running(PROGRAM, policy, size, launch.start, lambda before, _: launch.fit(before, least))


def show(launch: Launch, size: int) -> int:
    """Print what would be typed on each host, and what it would be told."""
    import json
    import shlex

    hosts = hostfile.shared(launch.hosts, size)
    for host in hosts:
        job = launch.job(host, hosts, f"{launch.ssh.address(hosts[0].name)}:PORT", "ID")
        print(shlex.join(launch.ssh.typed(host.name, ["launch", "node", "--supervised"])))
        print(f"  {json.dumps(job)}")
    return EXIT_DONE
