"""Several processes of one command on this machine: one terminal, one error, one exit code.

Rank 0's output passes through; the output of the others is kept, and shown only if one of them is the cause of the
end. A rank that fails leaves its reason in a JSON file (`mytalk.command.leave_error`); the kind of error there, or the
signal that killed the rank, decides which failure explains the others. Unlike torchrun it returns the ranks' own exit
code, so that 75 still means "the same command continues".

Each rank has its own session: Ctrl-C at a terminal reaches the launcher alone, which passes it on once. If the
launcher itself is killed, the kernel kills the ranks (PR_SET_PDEATHSIG, Linux only): no process is left behind,
and nothing is lost but the steps since the last checkpoint.
"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from launch.follow.restart import Ended, Policy, keep_running, next_world_size
from launch.processes.rank import FORWARDED
from launch.processes.supervisor import Supervisor
from launch.words import at_least, check_words, global_batch, is_training, run_folder
from mytalk import command
from mytalk.command import EXIT_DONE, UserError
from mytalk.machine import cores, free_port

# Of a rank's environment, what the launcher sets.
TOLD = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "OMP_NUM_THREADS")


def arguments() -> argparse.ArgumentParser:
    """The command line of `python -m launch local`."""
    parser = command.parser(
        "python -m launch local",
        "Run a command in several processes on this machine, usually one for each GPU. TERM, INT and USR1 are "
        "passed on to all of them: training then writes a checkpoint and ends with exit code 75, and the same "
        "command continues. The first process that fails ends the others; its error and its exit code are shown.",
        "python -m launch local --processes 8 -- train motion --config configs/paper/motion.yaml "
        "shards=data/mine run=runs/motion identity=runs/identity/model",
    )
    parser.add_argument("--processes", type=int, required=True, metavar="N", help="how many processes to start")
    parser.add_argument(
        "--threads", type=int, metavar="K", help="OMP_NUM_THREADS of each; else yours, else the cores divided by N"
    )
    parser.add_argument(
        "--grace-s",
        type=float,
        default=60.0,
        help="seconds that the others have to end once one has ended, and from TERM to KILL",
    )
    parser.add_argument(
        "--restarts",
        type=int,
        metavar="N",
        help="start a training again that ended with 75 or crashed, up to N times without getting further (default: "
        "never)",
    )
    parser.add_argument(
        "--min-processes",
        type=int,
        metavar="M",
        help="with --restarts: go on without a process that was killed, at the next number of at least M that "
        "divides global_batch",
    )
    parser.add_argument("--dry-run", action="store_true", help="print what would run, and start nothing")
    parser.add_argument("words", nargs="*", metavar="-- FOLDER COMMAND ...", help="train or eval, and what follows")
    return parser


def run(args: argparse.Namespace) -> int:
    """Start the processes; UserError for what cannot be started."""
    check_words(args.words)
    at_least(1, processes=args.processes, threads=args.threads, min_processes=args.min_processes)
    at_least(0, restarts=args.restarts, grace_s=args.grace_s)
    if args.dry_run:
        sys.stdout.buffer.write(os.fsencode("".join(shown(args.words, args.processes, args.threads))))
        return EXIT_DONE
    if args.restarts is None:
        if args.min_processes is not None:
            raise UserError("--min-processes needs --restarts N")
        return start(args.words, args.processes, args.threads, args.grace_s)
    if not is_training(args.words):
        raise UserError("--restarts is for train; type an eval command again, it continues by itself")

    def begin(size: int) -> Ended:
        return start_once(args.words, size, args.threads, args.grace_s)

    def fit(size: int, ended: Ended) -> int:
        if args.min_processes is None or not ended.lost:
            return size
        return next_world_size(global_batch(args.words), size - ended.lost, args.min_processes)

    policy = Policy(run_folder(args.words), args.restarts)
    return keep_running("python -m launch local", policy, args.processes, begin, fit)


def shown(words: Sequence[str], processes: int, threads: int | None) -> list[str]:
    """A line for each rank: what would run it in a shell. The port is chosen at every start."""
    lines = []
    for environment in environments(processes, threads):
        told = [f"{name}={'PORT' if name == 'MASTER_PORT' else environment[name]}" for name in TOLD]
        lines.append(shlex.join(["env", *told, sys.executable, "-m", *words]) + "\n")
    return lines


def start(words: Sequence[str], processes: int, threads: int | None = None, grace_s: float = 60.0) -> int:
    """Run `python -m WORDS` in `processes` processes and wait for them; the exit code of the whole."""
    return start_once(words, processes, threads, grace_s).code


def start_once(words: Sequence[str], processes: int, threads: int | None = None, grace_s: float = 60.0) -> Ended:
    """Run `python -m WORDS` in `processes` processes and wait for them; how the whole ended.

    It sets signal handlers of this process, and must be called before any thread is started.
    """
    with tempfile.TemporaryDirectory(prefix="launch-") as error_folder:
        supervisor = Supervisor(grace_s, Path(error_folder), debug="--debug" in words)
        handlers = {number: signal.signal(number, supervisor.forward) for number in FORWARDED}
        try:
            # A signal that comes while ranks are being started waits until it can be passed on to all of them.
            signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)
            for environment in environments(processes, threads):
                supervisor.add([sys.executable, "-m", *words], environment)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
            return supervisor.ended(supervisor.wait())
        finally:
            supervisor.kill()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
            for number, handler in handlers.items():
                signal.signal(number, handler)


def environments(processes: int, threads: int | None) -> list[dict[str, str]]:
    """The environment of each rank, as torchrun would set it."""
    shared = {
        "OMP_NUM_THREADS": str(max(1, cores() // processes)),
        **os.environ,
        "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
    }
    if threads is not None:
        shared["OMP_NUM_THREADS"] = str(threads)
    return [{**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(processes)]
