"""Machines of Slurm for commands that are no launchers themselves: preflight and the drill take the same options."""

from __future__ import annotations

import argparse

from launch.clusters.facts import Cluster, cluster_of
from launch.slurm.job import from_cluster, refuse_numbers
from mytalk.command import UserError

SHORT = {"gpus_per_node": "as of `launch slurm`", "ranks_per_node": "processes on each without GPUs (default: 1)"}
SHORT |= {"cpus_per_rank": "CPUs of each process"}


def options(parser: argparse.ArgumentParser) -> None:
    """The options that describe them."""
    parser.add_argument("--nodes", type=int, metavar="N", help="by Slurm: how many machines")
    for name, what in SHORT.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, metavar=name[0].upper(), help=f"by Slurm: {what}")
    parser.add_argument("--partition", metavar="NAME", help="by Slurm")
    parser.add_argument("--account", metavar="NAME", help="by Slurm")


def described(args: argparse.Namespace) -> tuple[Cluster, int]:
    """The cluster, and processes of each machine; `args` is filled in. UserError for what does not fit together."""
    if args.hostfile is not None or args.processes is not None:
        raise UserError("--nodes is of Slurm; leave --hostfile and --processes out")
    cluster = cluster_of(args.cluster)
    args.array, args.time, args.signal_s = None, None, 1
    from_cluster(args, cluster)
    args.time = None
    refuse_numbers(args)
    return cluster, args.gpus_per_node or args.ranks_per_node or 1
