"""A training on several machines, as Kubernetes and SkyPilot need to know it: checked once, written in either form."""

from __future__ import annotations

import argparse
import math
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from launch.clusters.facts import Cluster, cluster_of
from launch.follow.folder import status
from launch.words import at_least, check_words, run_folder
from mytalk import command
from mytalk.command import UserError

LABEL = re.compile(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?")  # RFC 1123, and room for what JobSet adds to it
IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]*")
GRACE_S = 300  # from TERM to KILL, where no run has been measured: time for a step and a checkpoint
LEAST_GRACE_S, SLOWER = 30, 3.0  # a measured step and checkpoint may take so many times as long
RESTARTS = 3


@dataclass(frozen=True)
class ClusterJob:
    """What both are told."""

    name: str
    nodes: int
    processes: int  # on each node
    gpus: int  # of each node
    cpus: int  # of each node; 0: what there is
    restarts: int  # of crashes
    grace_s: int
    image: str
    words: tuple[str, ...]
    cluster: Cluster
    config: str = ""  # every setting of a training, as YAML; empty where it is not known here

    def command(self, python: str = "python", *options: str) -> list[str]:
        """What each node runs; its place comes from the environment."""
        return [python, "-m", "launch", "node", *options, "--", *self.words]


def options(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """The options that both take."""
    parser.add_argument("--cluster", metavar="NAME", help="facts of your cluster: a file in configs/clusters")
    parser.add_argument("--nodes", type=int, default=1, metavar="N", help="how many machines")
    parser.add_argument("--gpus-per-node", type=int, metavar="G", help="GPUs, and so processes, on each; 0: CPU only")
    parser.add_argument("--ranks-per-node", type=int, metavar="R", help="processes on each without GPUs (default: 1)")
    parser.add_argument("--cpus-per-rank", type=int, metavar="K", help="CPUs of each process (default: what there is)")
    parser.add_argument("--image", help="container image; docker/ has how to make it")
    parser.add_argument("--name", help="name of the job (default: such as train-motion)")
    parser.add_argument("--restarts", type=int, default=RESTARTS, metavar="N", help="starts after crashes")
    parser.add_argument(
        "--grace-s",
        type=int,
        metavar="S",
        help="from TERM to KILL (default: three times what a step and a checkpoint have taken in the run folder, if it "
        f"is seen here; else {GRACE_S})",
    )
    parser.add_argument("--dry-run", action="store_true", help="print what would be submitted")
    parser.add_argument("words", nargs="*", metavar="-- FOLDER COMMAND ...", help="train or eval, and what follows")
    return parser


def parser_of(program: str, description: str, example: str) -> argparse.ArgumentParser:
    """A parser with these options."""
    return options(command.parser(program, description, example))


def job_of(args: argparse.Namespace, in_container: bool = True) -> ClusterJob:
    """The job that a command line describes, with what its cluster's file says. UserError where none can be."""
    check_words(args.words)
    cluster = cluster_of(args.cluster)
    gpus = cluster.gpus_per_node if args.gpus_per_node is None else args.gpus_per_node
    cpus = args.cpus_per_rank or cluster.cpus_per_rank
    at_least(1, nodes=args.nodes, ranks_per_node=args.ranks_per_node, cpus_per_rank=args.cpus_per_rank)
    at_least(0, gpus_per_node=gpus, restarts=args.restarts)
    at_least(1, grace_s=args.grace_s)
    if gpus and args.ranks_per_node not in (None, gpus):
        raise UserError("with GPUs there is one process for each; leave --ranks-per-node out")
    processes = gpus or args.ranks_per_node or 1
    name = named(args.name or "-".join(args.words[:2]))
    image = args.image or cluster.image
    if (in_container or image) and not IMAGE.fullmatch(image):
        raise UserError(f"--image must name a container image, not {image!r}")
    printable(args.words)
    return ClusterJob(
        *(
            name,
            args.nodes,
            processes,
            gpus,
            cpus * processes,
            args.restarts,
            args.grace_s or grace_s(args.words),
            image,
        ),
        words=tuple(args.words),
        cluster=cluster,
    )


def named(name: str) -> str:
    """A name that a job can have. Raises UserError for another."""
    if not LABEL.fullmatch(name):
        raise UserError(f"--name must be small letters, digits and -, at most 40, not {name!r}")
    return name


def grace_s(words: Sequence[str]) -> int:
    """Seconds from TERM to KILL: enough for a step and a checkpoint as the run folder has them, else the default."""
    run = run_folder(words)
    try:
        measured = status(run) if run is not None else None
    except UserError:  # no run folder that is seen from here
        measured = None
    if measured is None or measured.step_s is None or measured.checkpoint_written_s is None:
        return GRACE_S
    return max(LEAST_GRACE_S, math.ceil(SLOWER * (measured.step_s + measured.checkpoint_written_s)))


def printable(words: list[str]) -> None:
    """UserError for a word that no YAML or environment can hold: bytes that are no text, control characters."""
    for word in words:
        if any(unicodedata.category(letter) in ("Cc", "Cs") and letter not in "\t\n" for letter in word):
            raise UserError(f"{word!r} holds what is no text; rename the file")


def as_yaml(documents: list[dict[str, Any]]) -> str:
    """Documents as YAML; whatever is in a value stays in it."""
    import yaml

    return yaml.safe_dump_all(documents, sort_keys=False, allow_unicode=True, width=1000)
