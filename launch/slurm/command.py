"""`python -m launch slurm`: one job of several machines, or an array of jobs; submitted, or printed."""

from __future__ import annotations

import argparse
import os
import sys

from launch.slurm.follow import follow
from launch.slurm.job import CONTAINERS, job_of
from launch.slurm.script import script
from launch.slurm.submit import submit, what_to_type
from mytalk import command
from mytalk.command import EXIT_DONE, UserError


def arguments() -> argparse.ArgumentParser:
    """The command line of `python -m launch slurm`."""
    parser = command.parser(
        "python -m launch slurm",
        "Submit a command to Slurm: one process for each GPU, on several nodes. The job runs in this folder with "
        "this Python, so both must be on a disk that the nodes share. Before its time is up training gets USR1, "
        "writes a checkpoint and ends with exit code 75; the job is then requeued and continues. eval is just ended "
        "when its time is up; submitted again it continues after the last finished clip.",
        "python -m launch slurm --nodes 2 --gpus-per-node 8 --cpus-per-rank 8 --time 12:00:00 -- train motion "
        "--config configs/paper/motion.yaml shards=data/mine run=runs/motion identity=runs/identity/model",
    )
    _add_machines(parser.add_argument_group("machines"))
    _add_job(parser.add_argument_group("the job"))
    _add_container(parser.add_argument_group("a container"))
    parser.add_argument("--detach", action="store_true", help="submit, and do not follow the log")
    parser.add_argument("--follow", metavar="JOB", help="the log and the state of a job that was submitted before")
    parser.add_argument("--dry-run", action="store_true", help="print the script instead of submitting it")
    parser.add_argument("words", nargs="*", metavar="-- FOLDER COMMAND ...", help="train or eval, or data_pipeline")
    return parser


def _add_machines(group: argparse._ArgumentGroup) -> None:
    """How many, and how many processes on each."""
    group.add_argument("--cluster", metavar="NAME", help="facts of your cluster, for what is not given here")
    group.add_argument("--nodes", type=int, metavar="N", help="how many machines")
    group.add_argument(
        "--array",
        metavar="N",
        help="of data_pipeline: N processes, each a job of its own (N%%M: at most M at once); the command shares its "
        "work among them",
    )
    group.add_argument("--gpus-per-node", type=int, metavar="G", help="GPUs, and so processes, on each; 0: CPU only")
    group.add_argument(
        "--ranks-per-node", type=int, metavar="R", help="processes on each, where --gpus-per-node is 0 (default 1)"
    )
    group.add_argument(
        "--cpus-per-rank",
        type=int,
        metavar="K",
        help="CPUs of each process; also its OMP_NUM_THREADS unless you have set that (default: Slurm's, and 1)",
    )


def _add_job(group: argparse._ArgumentGroup) -> None:
    """Its name, limits, log and what else sbatch takes."""
    group.add_argument("--time", metavar="[D-]HH:MM:SS", help="time limit (default: the partition's)")
    group.add_argument("--partition", metavar="NAME", help="partition (default: the cluster's)")
    group.add_argument("--account", metavar="NAME", help="account (default: yours)")
    group.add_argument("--name", help="name of the job (default: such as train-motion)")
    group.add_argument(
        "--signal-s", type=int, default=120, metavar="S", help="seconds before its end that training gets USR1"
    )
    group.add_argument(
        "--restarts",
        type=int,
        metavar="N",
        help="start a training again that crashed, in the same job, up to N times without getting further (0)",
    )
    group.add_argument("--log", default=".", metavar="FOLDER", help="folder of the log, slurm-JOB.out (default: this)")
    group.add_argument(
        "--sbatch",
        action="append",
        default=[],
        metavar="KEY[=VALUE]",
        help="another option of sbatch, such as gres=gpu:4 or exclusive; may be repeated",
    )


def _add_container(group: argparse._ArgumentGroup) -> None:
    """In which the command runs, and what it sees."""
    group.add_argument("--container-image", metavar="IMAGE", help="run in this container, whose `python` is taken")
    group.add_argument(
        "--container-mount",
        action="append",
        default=[],
        metavar="HOST:THERE",
        help="a folder of the node that the container sees; may be repeated",
    )
    group.add_argument("--container", choices=CONTAINERS, help="what runs it (default: the cluster's, else pyxis)")


def run(args: argparse.Namespace) -> int:
    """Print the job, or submit and follow it; UserError for what cannot be submitted."""
    if args.follow is not None:
        if args.words:
            raise UserError("--follow is of a job that was submitted before; leave the words out")
        return follow(args.follow, from_end=True)
    job = job_of(args)
    text = script(job, args.words)
    if args.dry_run:
        sys.stdout.buffer.write(os.fsencode(text))
        sys.stdout.buffer.flush()
        return EXIT_DONE
    number = submit(job, text)
    print("\n".join(what_to_type(job, number, args.words[0])), flush=True)
    return EXIT_DONE if args.detach else follow(number)
