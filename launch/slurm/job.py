"""One job of Slurm: what is known of it, from the command line and the cluster's file, each part checked."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from launch.clusters.facts import Cluster, cluster_of
from launch.words import FOLDERS, at_least, check_words, is_eval, is_training
from mytalk.command import UserError

TIME = re.compile(r"(?:(\d{1,3})-)?(\d{1,4}):([0-5]\d):([0-5]\d)", re.ASCII)
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._,@+-]*")
KEY = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")
PLAIN = re.compile(r"[A-Za-z0-9_@%+=:,./-]+")
# sbatch takes any unambiguous beginning of an option, so these are refused by their beginnings as well.
RESERVED = (
    *("job-name", "nodes", "ntasks", "ntasks-per-node", "tasks-per-node", "gpus-per-node", "cpus-per-task", "time"),
    *("partition", "account", "chdir", "output", "open-mode", "signal", "requeue", "no-requeue"),
    *("array", "wrap", "parsable", "test-only"),
)
HETEROGENEOUS = ("hetjob", "packjob", "het-group")
ARRAY = re.compile(r"([1-9]\d{0,6})(?:%([1-9]\d{0,6}))?", re.ASCII)
ARRAY_FOLDERS = ("data_pipeline",)  # whose commands share their work by themselves
CONTAINERS = ("pyxis", "apptainer")
IMAGE = re.compile(r"[A-Za-z0-9/.][A-Za-z0-9._/:@+#-]*")
MOUNT = re.compile(r"/[^,:\x00-\x1f]*:/[^,:\x00-\x1f]*(:(ro|rw))?")
MOST_RESTARTS = 10
MAX_SIGNAL_S = 65535  # sbatch --signal
EARLY_S = 60  # Slurm may send the signal so much earlier


@dataclass(frozen=True)
class SlurmJob:
    """What the script needs to know. `job_of` makes it from the command line, checked."""

    name: str
    nodes: int
    ranks_per_node: int
    gpus_per_node: int
    signal_s: int
    folder: str  # where it runs
    log: str  # folder of its log
    python: str = sys.executable
    cpus_per_rank: int | None = None
    time: str | None = None
    partition: str | None = None
    account: str | None = None
    more: tuple[tuple[str, str | None], ...] = ()  # options of sbatch, without a value where that is None
    container: str = ""  # pyxis or apptainer; empty: none
    image: str = ""
    mounts: tuple[str, ...] = ()
    variables: tuple[tuple[str, str], ...] = ()  # of every rank
    restarts: int = 0  # tries after a crash, in the same job
    elements: int = 0  # of an array; 0: a job that is none
    at_once: int = 0  # elements that may run at the same time; 0: all


def job_of(args: argparse.Namespace) -> SlurmJob:
    """The job that the command line describes; UserError where none can be."""
    cluster = cluster_of(args.cluster)
    elements, at_once = array_of(args)
    from_cluster(args, cluster)
    refuse_numbers(args)
    default = "-".join(word for word in args.words[:2] if NAME.fullmatch(word))
    log = os.path.abspath(args.log)
    if "%" in log:
        raise UserError(f"--log {log!r} holds a %, which Slurm replaces; name another folder")
    image = args.container_image or (cluster.image if args.container or cluster.container else "")
    if not image and (args.container_mount or args.container):
        raise UserError(
            "--container-mount and --container are of no use without an image; add --container-image IMAGE, or the "
            "`image` and `container` of --cluster"
        )
    refuse_container(image, args.container_mount or cluster.mounts)
    return SlurmJob(
        name=named("--name", args.name) or default,
        nodes=args.nodes or 1,
        ranks_per_node=1 if elements else args.gpus_per_node or args.ranks_per_node or 1,
        gpus_per_node=args.gpus_per_node,
        signal_s=args.signal_s,
        folder=os.getcwd(),
        log=log,
        cpus_per_rank=args.cpus_per_rank,
        time=args.time,
        partition=named("--partition", args.partition),
        account=named("--account", args.account),
        more=tuple(option(typed) for typed in args.sbatch),
        python=(cluster.python or "python") if image else cluster.python or sys.executable,
        container=args.container or cluster.container or "pyxis" if image else "",
        image=image,
        mounts=tuple(args.container_mount or (cluster.mounts if image else ())),
        variables=tuple(cluster.variables().items()),
        restarts=restarts_of(args),
        elements=elements,
        at_once=at_once,
    )


def restarts_of(args: argparse.Namespace) -> int:
    """How often a training that crashed is tried again. UserError where something else is to be started."""
    if args.restarts is None:
        return 0
    if not 0 <= args.restarts <= MOST_RESTARTS:
        raise UserError(f"--restarts must be within 0 and {MOST_RESTARTS}, not {args.restarts}")
    if not is_training(args.words):
        raise UserError("--restarts is for train; submit another command again, it continues by itself")
    return args.restarts


def array_of(args: argparse.Namespace) -> tuple[int, int]:
    """How many elements an array has, and how many may run at once (0: all); (0, 0) of a job that is none.

    Raises UserError for words that an array cannot share, and for options that it does not take.
    """
    if args.array is None:
        if args.words and args.words[0] in ARRAY_FOLDERS:
            raise UserError(f"{args.words[0]} runs as an array of processes; add --array N")
        check_words(args.words)
        if args.nodes is None:
            raise UserError("how many machines? type --nodes N")
        return 0, 0
    if args.words and args.words[0] in FOLDERS:
        raise UserError(
            f"{args.words[0]} is one job whose ranks share the work and bring it together at its end, which elements "
            "of an array cannot, as they know nothing of each other; type --nodes N instead of --array"
        )
    check_words(args.words, ARRAY_FOLDERS)
    match = ARRAY.fullmatch(args.array)
    if match is None:
        raise UserError(f"--array takes N, or N%M for at most M at once, such as 64%16, not {args.array!r}")
    if (args.nodes or 1) != 1 or (args.ranks_per_node or 1) != 1:
        raise UserError("an element of an array is one process; leave --nodes and --ranks-per-node out")
    return int(match[1]), int(match[2] or 0)


def from_cluster(args: argparse.Namespace, cluster: Cluster) -> None:
    """Fill in what is not typed. An element of an array has no GPU unless one is typed."""
    for name in ("gpus_per_node", "cpus_per_rank", "time", "partition", "account"):
        if getattr(args, name) is None and not (args.array and name == "gpus_per_node"):
            setattr(args, name, getattr(cluster, name) or None)
    if args.gpus_per_node is None and args.cluster is None and not args.array:
        raise UserError("how many GPUs? type --gpus-per-node G, 0 for none; or name a --cluster that says so")
    args.gpus_per_node = args.gpus_per_node or 0


def refuse_numbers(args: argparse.Namespace) -> None:
    """UserError for counts and times that do not fit together."""
    at_least(1, nodes=args.nodes, ranks_per_node=args.ranks_per_node, cpus_per_rank=args.cpus_per_rank)
    at_least(0, gpus_per_node=args.gpus_per_node)
    if args.gpus_per_node and args.ranks_per_node not in (None, args.gpus_per_node):
        raise UserError("with GPUs there is one process for each; leave --ranks-per-node out")
    if not 1 <= args.signal_s <= MAX_SIGNAL_S:
        raise UserError(f"--signal-s must be within 1 and {MAX_SIGNAL_S}, not {args.signal_s}")
    if args.time is not None and seconds(args.time) <= args.signal_s + EARLY_S and not is_eval(args.words):
        raise UserError(
            f"--time {args.time} is over before any work is done: USR1 is sent {args.signal_s} s before the end, or up "
            f"to {EARLY_S} s earlier; give more time, or a smaller --signal-s"
        )


def refuse_container(image: str, mounts: Sequence[str]) -> None:
    """UserError for an image or a mount that srun could read in another way: a comma divides mounts."""
    if image and (not IMAGE.fullmatch(image)):
        raise UserError(f"--container-image {image!r} cannot be one")
    for mount in mounts if image else ():
        if not MOUNT.fullmatch(mount):
            raise UserError(f"--container-mount takes HOST:THERE, two absolute paths without commas, not {mount!r}")


def seconds(time: str) -> int:
    """Seconds of `[D-]HH:MM:SS`."""
    match = TIME.fullmatch(time)
    if match is None:
        raise UserError(f"--time must look like 12:00:00 or 2-00:00:00, not {time!r}")
    days, hours, minutes, rest = (int(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + rest


def named(typed: str, value: str | None) -> str | None:
    """The value, if it can be a name to Slurm."""
    if value is not None and NAME.fullmatch(value) is None:
        raise UserError(f"{typed} must be letters, digits and . _ , @ + -, beginning with one of the former: {value!r}")
    return value


def option(typed: str) -> tuple[str, str | None]:
    """An option of sbatch from `KEY=VALUE` or `KEY`."""
    key, equals, value = typed.partition("=")
    if KEY.fullmatch(key) is None or len(key) < 2:
        raise UserError(f"--sbatch takes KEY=VALUE with the long name of an option, such as gres=gpu:4, not {typed!r}")
    if any(key.startswith(option) for option in HETEROGENEOUS):
        raise UserError(f"--sbatch {key}: a job has one kind of node; heterogeneous jobs are not supported")
    if any(option.startswith(key) for option in RESERVED):
        raise UserError(
            f"--sbatch {key} would change what the script relies on; see --help for the option that sets it"
        )
    directive(key, value if equals else None)  # may refuse
    return key, value if equals else None


def directive(key: str, value: str | int | None) -> str:
    """A line of options for sbatch; UserError for a value that it could read in another way."""
    if value is None:
        return f"#SBATCH --{key}"
    text = str(value)
    if not text.isprintable() or text.strip() != text or not text or set(text) & {'"', "\\"}:
        raise UserError(f"a job's {key} cannot be {text!r}: it must be one line, without double quotes and backslashes")
    return f"#SBATCH --{key}=" + (text if PLAIN.fullmatch(text) else f'"{text}"')
