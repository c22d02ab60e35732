"""One job of several machines: writes the script that Slurm runs, and submits it.

srun starts the ranks, one task each, without a launcher in between: what Slurm signals is the training itself. It
catches USR1, which Slurm sends before the time is up, writes a checkpoint and ends with 75; the script then requeues
the job, and the same command continues. Scoring (`eval`) needs none of that: the scores of a clip are on disk when
the clip is done, so any signal may end it, and the same command continues.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from launch.clusters.facts import cluster_of
from launch.words import at_least, check_words, is_training
from mytalk import command
from mytalk.command import EXIT_DONE, EXIT_RUN_AGAIN, UserError
from mytalk.machine import PORTS

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
CONTAINERS = ("pyxis", "apptainer")
IMAGE = re.compile(r"[A-Za-z0-9/.][A-Za-z0-9._/:@+#-]*")
MOUNT = re.compile(r"/[^,:\x00-\x1f]*:/[^,:\x00-\x1f]*(:(ro|rw))?")
MAX_SIGNAL_S = 65535  # sbatch --signal
EARLY_S = 60  # Slurm may send the signal so much earlier

# The script of one rank. exec: a shell in between would die of the signal, and the rank with it.
RANK = """
export RANK="$SLURM_PROCID" WORLD_SIZE="$SLURM_NTASKS" LOCAL_RANK="$SLURM_LOCALID"
exec "$@"
"""
# Before it, for training: TERM and USR1 are ignored until training catches them, and again when it has ended. The
# first rank to end with 75 makes srun send TERM to those that are still closing, and their code must stay 75.
IGNORE_EARLY_SIGNALS = """
trap "" TERM USR1"""

SCRIPT = """\
#!/bin/bash
{directives}
# Written by `python -m launch slurm`.

trap : USR1  # meant for the ranks; this shell must outlive it
MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export MASTER_ADDR
export MASTER_PORT=$(({first_port} + SLURM_JOB_ID % {ports}))
export LOCAL_WORLD_SIZE={ranks_per_node}
export OMP_NUM_THREADS="${{OMP_NUM_THREADS:-{threads}}}"
{variables}
{typed}
code=$?
if [ "$code" -eq {again} ]; then
  echo "stopped by a signal after a checkpoint; requeueing job $SLURM_JOB_ID, which continues"
  scontrol requeue "$SLURM_JOB_ID" || echo "job $SLURM_JOB_ID cannot be requeued; submit it again to continue" >&2
fi
exit "$code"
"""


def arguments() -> argparse.ArgumentParser:
    """The command line of `python -m launch slurm`."""
    parser = command.parser(
        "python -m launch slurm",
        "Submit a command to Slurm: one process for each GPU, on several nodes. The job runs in this folder with "
        "this Python, so both must be on a disk that the nodes share. Before its time is up training gets USR1, "
        "writes a checkpoint and ends with exit code 75; the job is then requeued and continues. eval is just ended "
        "when its time is up; submitted again it continues after the last finished clip.",
        "python -m launch slurm --nodes 2 --gpus-per-node 8 --cpus-per-rank 8 --time 12:00:00 -- train motion "
        "--config configs/paper/motion.yaml shards=data/mine run=runs/mine identity=runs/identity/model",
    )
    parser.add_argument("--cluster", metavar="NAME", help="facts of your cluster, for what is not given here")
    parser.add_argument("--nodes", type=int, required=True, metavar="N", help="how many machines")
    parser.add_argument("--gpus-per-node", type=int, metavar="G", help="GPUs, and so processes, on each; 0: CPU only")
    parser.add_argument(
        "--ranks-per-node", type=int, metavar="R", help="processes on each, where --gpus-per-node is 0 (default 1)"
    )
    parser.add_argument(
        "--cpus-per-rank",
        type=int,
        metavar="K",
        help="CPUs of each process; also its OMP_NUM_THREADS unless you have set that (default: Slurm's, and 1)",
    )
    parser.add_argument("--time", metavar="[D-]HH:MM:SS", help="time limit (default: the partition's)")
    parser.add_argument("--partition", metavar="NAME", help="partition (default: the cluster's)")
    parser.add_argument("--account", metavar="NAME", help="account (default: yours)")
    parser.add_argument("--name", help="name of the job (default: such as train-motion)")
    parser.add_argument(
        "--signal-s", type=int, default=120, metavar="S", help="seconds before its end that training gets USR1 (120)"
    )
    parser.add_argument("--log", default=".", metavar="FOLDER", help="folder of the log, slurm-JOB.out (default: this)")
    parser.add_argument(
        "--sbatch",
        action="append",
        default=[],
        metavar="KEY[=VALUE]",
        help="another option of sbatch, such as gres=gpu:4 or exclusive; may be repeated",
    )
    parser.add_argument("--container-image", metavar="IMAGE", help="run in this container, whose `python` is taken")
    parser.add_argument(
        "--container-mount",
        action="append",
        default=[],
        metavar="HOST:THERE",
        help="a folder of the node that the container sees; may be repeated",
    )
    parser.add_argument("--container", choices=CONTAINERS, help="what runs it (default: the cluster's, else pyxis)")
    parser.add_argument("--dry-run", action="store_true", help="print the script instead of submitting it")
    parser.add_argument("words", nargs="*", metavar="-- FOLDER COMMAND ...", help="train or eval, and what follows")
    return parser


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


def run(args: argparse.Namespace) -> int:
    """Print or submit the job; UserError for what cannot be submitted."""
    job = job_of(args)
    text = script(job, args.words)
    if args.dry_run:
        sys.stdout.buffer.write(os.fsencode(text))
        sys.stdout.buffer.flush()
        return EXIT_DONE
    return submit(job, text, is_training(args.words))


def job_of(args: argparse.Namespace) -> SlurmJob:
    """The job that the command line describes; UserError where none can be."""
    check_words(args.words)
    cluster = cluster_of(args.cluster)
    for name in ("gpus_per_node", "cpus_per_rank", "time", "partition", "account"):
        if getattr(args, name) is None:
            setattr(args, name, getattr(cluster, name) or None)
    if args.gpus_per_node is None and args.cluster is None:
        raise UserError("how many GPUs? type --gpus-per-node G, 0 for none; or name a --cluster that says so")
    args.gpus_per_node = args.gpus_per_node or 0
    at_least(1, nodes=args.nodes, ranks_per_node=args.ranks_per_node, cpus_per_rank=args.cpus_per_rank)
    at_least(0, gpus_per_node=args.gpus_per_node)
    if args.gpus_per_node and args.ranks_per_node not in (None, args.gpus_per_node):
        raise UserError("with GPUs there is one process for each; leave --ranks-per-node out")
    if not 1 <= args.signal_s <= MAX_SIGNAL_S:
        raise UserError(f"--signal-s must be within 1 and {MAX_SIGNAL_S}, not {args.signal_s}")
    if args.time is not None and seconds(args.time) <= args.signal_s + EARLY_S and is_training(args.words):
        raise UserError(
            f"--time {args.time} is over before training begins: USR1 is sent {args.signal_s} s before the end, or up "
            f"to {EARLY_S} s earlier; give more time, or a smaller --signal-s"
        )
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
        nodes=args.nodes,
        ranks_per_node=args.gpus_per_node or args.ranks_per_node or 1,
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
    )


def refuse_container(image: str, mounts: Sequence[str]) -> None:
    """UserError for an image or a mount that srun could read in another way: a comma divides mounts."""
    if image and (not IMAGE.fullmatch(image)):
        raise UserError(f"--container-image {image!r} cannot be one")
    for mount in mounts if image else ():
        if not MOUNT.fullmatch(mount):
            raise UserError(f"--container-mount takes HOST:THERE, two absolute paths without commas, not {mount!r}")


def container(job: SlurmJob) -> tuple[list[str], list[str]]:
    """For a job in a container: options of srun (pyxis), and what stands before Python (apptainer)."""
    if job.container == "pyxis":
        mounts = [f"--container-mounts={','.join(job.mounts)}"] if job.mounts else []
        return [f"--container-image={job.image}", *mounts, f"--container-workdir={job.folder}"], []
    if job.container == "apptainer":
        gpus = ["--nv"] if job.gpus_per_node else []
        binds = [word for mount in (f"{job.folder}:{job.folder}", *job.mounts) for word in ("--bind", mount)]
        return [], ["apptainer", "exec", *gpus, *binds, "--pwd", job.folder, job.image]
    return [], []


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


def script(job: SlurmJob, words: Sequence[str]) -> str:
    """The batch script that runs `python -m WORDS` in every rank of the job."""
    options: list[tuple[str, str | int | None]] = [
        ("job-name", job.name),
        ("nodes", job.nodes),
        ("ntasks-per-node", job.ranks_per_node),
        ("gpus-per-node", job.gpus_per_node or None),
        ("cpus-per-task", job.cpus_per_rank),
        ("time", job.time),
        ("partition", job.partition),
        ("account", job.account),
        ("chdir", job.folder),
        ("output", os.path.join(job.log, "slurm-%j.out")),
        ("signal", f"USR1@{job.signal_s}" if is_training(words) else None),
        ("open-mode", "append"),
    ]
    given = [(key, value) for key, value in options if value is not None]
    # Repeated here, since srun follows neither the job's --cpus-per-task (from 22.05 on) nor, with sbatch
    # --export=NONE, its environment.
    srun = ["srun", "--kill-on-bad-exit=1", "--label", "--export=ALL"]
    if job.cpus_per_rank is not None:
        srun.append(f"--cpus-per-task={job.cpus_per_rank}")
    in_srun, before = container(job)
    srun += in_srun
    rank = IGNORE_EARLY_SIGNALS + RANK if is_training(words) else RANK
    return SCRIPT.format(
        directives="\n".join(directive(*option) for option in [*given, ("requeue", None), *job.more]),
        first_port=PORTS.start,
        ports=len(PORTS),
        ranks_per_node=job.ranks_per_node,
        threads=job.cpus_per_rank or 1,
        variables="".join(f"export {name}={quoted(value)}\n" for name, value in job.variables),
        typed=" ".join(
            [shlex.join([*srun, "/bin/bash", "-c", rank, "rank"]), *map(quoted, (*before, job.python, "-m", *words))]
        ),
        again=EXIT_RUN_AGAIN,
    )


def quoted(word: str) -> str:
    """A word for bash, on one line: sbatch obeys #PBS and #BSUB at the start of any line, and refuses CR LF."""
    if "\n" not in word:
        return shlex.quote(word)
    return "$'" + word.translate({ord("\\"): r"\\", ord("'"): r"\'", ord("\n"): r"\n"}) + "'"


def submit(job: SlurmJob, text: str, training: bool) -> int:
    """Give the script to sbatch; print the job's number, its log, and how to follow, interrupt and stop it."""
    sbatch = shutil.which("sbatch")
    if sbatch is None:
        raise UserError(
            "there is no sbatch here; go to a login node of the cluster, or print the script with --dry-run"
        )
    os.makedirs(job.log, exist_ok=True)  # Slurm would not, and the job would fail without a word
    done = subprocess.run([sbatch, "--parsable"], input=os.fsencode(text), capture_output=True, check=False)
    output, errors = (stream.decode(errors="replace").strip() for stream in (done.stdout, done.stderr))
    if done.returncode != 0:
        reason = (errors or output or f"exit code {done.returncode}").splitlines()[-1]
        raise UserError(f"sbatch did not take the job: {reason}")
    if errors:
        print(errors, file=sys.stderr)
    number = output.splitlines()[-1].partition(";")[0] if output else ""  # NUMBER or NUMBER;CLUSTER
    if not number.isdecimal():
        raise UserError(f"sbatch took the job but gave no number; look for {job.name} in squeue")
    log = shlex.quote(os.path.join(job.log, f"slurm-{number}.out"))
    print(f"job {number}: {job.nodes} x {job.ranks_per_node} processes\nlog:       {log}\nfollow:    tail -F {log}")
    if training:
        print(f"interrupt: scancel --signal=USR1 {number}   (writes a checkpoint; Slurm starts it again)")
        print(f"stop:      scancel {number}")
    else:
        print(f"stop:      scancel {number}   (finished clips are kept; submit the same command to continue)")
    return EXIT_DONE
