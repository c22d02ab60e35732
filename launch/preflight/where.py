"""Where a preflight measures: on this machine, on hosts that ssh reaches, or on nodes that Slurm gives."""

from __future__ import annotations

import argparse
import contextlib
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from launch.clusters.facts import cluster_of
from launch.follow.restart import Ended
from launch.hosts import hostfile
from launch.hosts.connection import Ssh
from launch.hosts.ssh import Launch
from launch.local import start_once
from launch.preflight import measure
from launch.slurm import machines
from launch.slurm.job import SlurmJob, named, refuse_container
from launch.slurm.script import in_allocation
from launch.words import at_least, run_folder
from mytalk.command import EXIT_DONE, UserError

GRACE_S = 30.0
SLURM_TIME = "00:15:00"  # most of it is waiting for the others


def options(parser: argparse.ArgumentParser) -> None:
    """The options that name other machines."""
    parser.add_argument(
        "--cluster", metavar="NAME", help="facts of your machines: configs/clusters/NAME.yaml, or a file"
    )
    parser.add_argument("--hostfile", type=Path, metavar="FILE", help="by ssh: a line `NAME slots=N` for each machine")
    parser.add_argument("--ssh-config", metavar="FILE", help="by ssh: configuration instead of yours")
    machines.options(parser)


class Here:
    """This machine."""

    def __init__(self, processes: int):
        at_least(1, processes=processes)
        self.size = processes

    def run(self, words: Sequence[str], *_: str) -> Ended:
        """Run a module in every process."""
        return start_once(list(words), self.size)


class ByHosts:
    """Hosts of a hostfile."""

    def __init__(self, args: argparse.Namespace, file: Path):
        at_least(1, processes=args.processes)
        self.cluster, self.hosts = cluster_of(args.cluster), hostfile.read(file)
        self.size = args.processes or sum(host.slots for host in self.hosts)
        if self.size > sum(host.slots for host in self.hosts):
            raise UserError(f"--processes {self.size} are more than the slots of {file}")
        self.ssh = Ssh(self.cluster.folder or os.getcwd(), self.cluster.python or sys.executable, args.ssh_config)

    def run(self, words: Sequence[str]) -> Ended:
        """Run a module in every process, after a look at every host."""
        return Launch(self.ssh, list(words), self.cluster, GRACE_S, self.hosts).start(self.size)


class BySlurm:
    """Nodes that srun asks for, and waits for."""

    def __init__(self, args: argparse.Namespace):
        cluster, ranks = machines.described(args)
        self.size = args.nodes * ranks
        image = cluster.image if cluster.container else ""
        refuse_container(image, cluster.mounts)
        self.job = SlurmJob(
            name="preflight",
            nodes=args.nodes,
            ranks_per_node=ranks,
            gpus_per_node=args.gpus_per_node,
            signal_s=1,
            folder=os.getcwd(),
            log=".",
            python=cluster.python or ("python" if image else sys.executable),
            container=cluster.container if image else "",
            image=image,
            mounts=tuple(cluster.mounts) if image else (),
            cpus_per_rank=args.cpus_per_rank,
            time=SLURM_TIME,
            partition=named("--partition", args.partition),
            account=named("--account", args.account),
            variables=tuple(cluster.variables().items()),
        )

    def run(self, words: Sequence[str]) -> Ended:
        """Run a module in every process of a job of its own."""
        if shutil.which("srun") is None:
            raise UserError("there is no srun here; go to a login node of the cluster")
        done = subprocess.run(in_allocation(self.job, words), stdout=sys.stderr, check=False)  # it says why it waits
        return Ended(done.returncode, reason=f"srun ended with exit code {done.returncode}")


def place(args: argparse.Namespace) -> Here | ByHosts | BySlurm:
    """Where the command line says. UserError for a description that names no place, or two."""
    if args.nodes is not None:
        return BySlurm(args)
    file = args.hostfile or Path(cluster_of(args.cluster).hostfile)
    if file.name:
        return ByHosts(args, file)
    if args.cluster is not None:
        raise UserError(f"--cluster {args.cluster} names no hostfile; add --hostfile FILE, or --nodes N for Slurm")
    return Here(1 if args.processes is None else args.processes)


def measured(there: Here | ByHosts | BySlurm, words: Sequence[str]) -> list[dict[str, Any]]:
    """What every rank has found. UserError where it cannot be measured.

    What they have found comes back through a folder beside the run's, which all machines must share.
    """
    run = run_folder(words)
    assert run is not None, "preflight is of a training"
    run = run.absolute()
    missing = [folder for folder in (run.parent, *run.parent.parents) if not folder.is_dir()]
    out = run.parent / f".preflight-{secrets.token_hex(4)}"
    out.mkdir(parents=True)
    try:
        return found_in(there, words, run, out)
    finally:
        shutil.rmtree(out, ignore_errors=True)
        for folder in missing:  # nothing is left behind
            with contextlib.suppress(OSError):
                folder.rmdir()


def found_in(there: Here | ByHosts | BySlurm, words: Sequence[str], run: Path, out: Path) -> list[dict[str, Any]]:
    """Measure, by way of a folder."""
    ended = there.run(["launch.preflight.measure", str(out), str(run), *words])
    if ended.code != EXIT_DONE:
        raise UserError(f"measuring failed: {ended.reason or ended.code}")
    try:
        return measure.found(out, there.size)
    except FileNotFoundError as error:
        raise UserError(
            f"a machine has written {Path(error.filename).name} into {out}, which is not there: run=... must lie on a "
            "disk that all share"
        ) from None
