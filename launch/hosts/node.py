"""The ranks of one host, started by torchrun's elastic agent; the whole is as many of these as there are hosts.

`python -m launch node` describes itself from the environment (launch/hosts/surroundings.py) or from options:
Kubernetes, SkyPilot, dstack and mpirun start it once on each host. `launch ssh` starts it with `--supervised`: then a
job comes on stdin, as one line of JSON, signals to pass on follow as lines, and the end of stdin ends all.

torchrun's own command returns 1 whatever a rank ended with, and dies of USR1. Here signals go to the ranks, and their
exit code is handed on: 75 still means that the same command continues. What watches pods and rented machines knows exit
codes alone, so 75 of a training that nobody told to stop and that has no newer checkpoint, as where storage is gone,
becomes that of a crash, which is counted.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import logging
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from launch.follow.folder import newest_step
from launch.hosts import rank
from launch.hosts.surroundings import place
from launch.words import check_words, run_folder
from mytalk import command
from mytalk.command import EXIT_CRASHED, EXIT_DONE, EXIT_RUN_AGAIN

PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
JOIN_S = 300.0  # wait for the other hosts
GRACE_S = 60  # from TERM to KILL, once a rank of this host has failed
ENDED = "mytalk-ended"  # begins the line that tells the launcher how it ended
KINDS = ("user", "machine", "bug", "peer")  # in this order an error explains the others


@dataclass
class Job:
    """What this host is to start. `node_rank` None: torchrun's c10d rendezvous deals the ranks."""

    words: list[str]
    nodes: int = 1
    processes: int = 1
    endpoint: str = "127.0.0.1:29500"
    node_rank: int | None = 0
    hosts_rendezvous: bool = True
    id: str = "mytalk"
    address: str | None = None
    grace_s: int = GRACE_S
    environment: dict[str, str] = field(default_factory=dict)


class Ended(NamedTuple):
    """How the ranks of a host ended: the exit code, the error that explains it, whether a signal was passed on."""

    code: int
    error: dict[str, Any]  # empty without one
    told: bool


def arguments() -> argparse.ArgumentParser:
    """The command line of `python -m launch node`."""
    parser = command.parser(
        "python -m launch node",
        "Start the ranks of this host by torchrun's agent, as the environment describes it (PET_*, SKYPILOT_*, "
        "DSTACK_*, OMPI_*, SLURM_*; docs/launch.md) or as the options do. Type it on every host, with the same words. "
        "TERM, INT and USR1 reach the ranks, and the exit code is theirs: 75 says that the same command continues.",
        "python -m launch node --nodes 2 --node-rank 0 --processes 8 --endpoint node1:29500 -- train motion "
        "--config configs/paper/motion.yaml shards=data/mine run=runs/motion identity=runs/identity/model",
    )
    parser.add_argument("--nodes", type=int, metavar="N", help="how many hosts")
    parser.add_argument("--node-rank", type=int, metavar="R", help="which of them this is, from 0")
    parser.add_argument("--processes", type=int, metavar="G", help="how many ranks on this host")
    parser.add_argument("--endpoint", metavar="HOST:PORT", help="a free port of the first host")
    parser.add_argument("--supervised", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("words", nargs="*", metavar="-- FOLDER COMMAND ...", help="train or eval, and what follows")
    return parser


def run(args: argparse.Namespace) -> int:
    """Start the ranks and wait; their exit code. UserError for an incomplete description."""
    if args.supervised:
        told = json.loads(sys.stdin.buffer.readline())
        job = Job(**told)
        sys.stdout.flush()
        ended = start(job, supervised=True)
        print(f"{ENDED} {job.id} {json.dumps({'code': ended.code, 'error': ended.error})}", flush=True)
        command.end(ended.code)
    check_words(args.words)
    given = {"nodes": args.nodes, "node_rank": args.node_rank, "processes": args.processes, "endpoint": args.endpoint}
    described = place(os.environ, {name: value for name, value in given.items() if value is not None})
    job = Job(list(args.words), **dataclasses.asdict(described), hosts_rendezvous=described.node_rank == 0)
    training = run_folder(args.words)
    before = newest_step(training) if training else -1
    ended = start(job)
    if training and ended.code == EXIT_RUN_AGAIN and not ended.told and newest_step(training) <= before:
        print("node: stopped without a newer checkpoint, which counts as a crash", file=sys.stderr, flush=True)
        return EXIT_CRASHED
    return ended.code


class Ranks:
    """The ranks of this host: their folder, and passing signals on to them."""

    def __init__(self, folder: Path, processes: int):
        self.folder, self.processes = folder, processes
        self.sent: set[int] = set()

    def signal(self, number: int, *_: object) -> None:
        """Handler of signals: pass it on to every rank that has started, and have those that start later end."""
        self.sent.add(number)
        with contextlib.suppress(OSError):
            rank.told_file(self.folder).touch()  # before the ids are read, see rank.main
        for local_rank in range(self.processes):
            with contextlib.suppress(OSError, ValueError):
                os.kill(int(rank.pid_file(self.folder, local_rank).read_text()), number)

    def errors(self) -> list[dict[str, Any]]:
        """What ranks that failed have left, the one that explains the others first."""
        errors = []
        for local_rank in range(self.processes):
            with contextlib.suppress(OSError, ValueError):
                errors.append(json.loads(rank.error_file(self.folder, local_rank).read_text()))
        return sorted(errors, key=lambda error: KINDS.index(error["kind"]))


def start(job: Job, supervised: bool = False) -> Ended:
    """Run the job's ranks on this host."""
    with tempfile.TemporaryDirectory(prefix="node-") as name:
        ranks = Ranks(Path(name), job.processes)
        os.environ.update(job.environment)
        os.environ |= {rank.WORDS: json.dumps(job.words), rank.FOLDER: name, "PYTHONUNBUFFERED": "1"}
        os.environ["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"] = str(job.grace_s)
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # as torchrun sets it, without its warning
        with passing_on(ranks):
            if supervised:
                threading.Thread(target=listen, args=(ranks,), daemon=True, name="listener").start()
            codes = elastic(job, Path(name))
        errors = ranks.errors()
        error = errors[0] if errors and codes else {}
        return Ended(exit_code(codes, ranks.sent), error, bool(ranks.sent))


@contextlib.contextmanager
def passing_on(ranks: Ranks) -> Iterator[None]:
    """While the ranks run, signals go to them."""
    before = {number: signal.signal(number, ranks.signal) for number in PASSED_ON}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def listen(ranks: Ranks) -> None:
    """Pass on signals that the launcher names on stdin; when it ends, so does everything here."""
    for line in sys.stdin.buffer:
        with contextlib.suppress(ValueError):
            ranks.signal(signal.Signals[line.decode(errors="replace").strip()] if line.strip() else signal.SIGTERM)
    ranks.signal(signal.SIGKILL)
    os._exit(128 + signal.SIGKILL)


def elastic(job: Job, folder: Path) -> list[int]:
    """Run torchrun's agent until its ranks have ended: the exit codes of those that failed, the first one first."""
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, Std
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # of a failure the ranks tell more
    static = job.node_rank is not None
    more: dict[str, Any] = {"rank": job.node_rank} if static else {"is_host": job.hosts_rendezvous}
    known = {one.name for one in dataclasses.fields(LaunchConfig)}
    optional: dict[str, Any] = {"signals_to_handle": "SIGQUIT", "log_line_prefix_template": "[${rank}] "}
    config = LaunchConfig(
        min_nodes=job.nodes,
        max_nodes=job.nodes,
        nproc_per_node=job.processes,
        run_id=job.id,
        rdzv_backend="static" if static else "c10d",
        rdzv_endpoint=job.endpoint,
        rdzv_configs={"timeout": JOIN_S, "join_timeout": JOIN_S, "read_timeout": JOIN_S, **more},
        max_restarts=0,
        local_addr=job.address,
        logs_specs=DefaultLogsSpecs(log_dir=str(folder / "logs"), redirects=Std.NONE, tee=Std.ALL),
        **{name: value for name, value in optional.items() if name in known},
    )
    os.makedirs(folder / "logs", exist_ok=True)
    try:
        elastic_launch(config, sys.executable)("-m", "launch.hosts.rank")
    except ChildFailedError as failed:
        first = failed.get_first_failure()[1]
        others = [failure for failure in failed.failures.values() if failure is not first]
        return [first.exitcode, *(failure.exitcode for failure in others)]
    except SignalException as told:  # an older torch handles signals itself
        return [-int(told.sigval)]
    return []


def exit_code(codes: Sequence[int], sent: set[int]) -> int:
    """The exit code of the whole, given those of ranks that failed, and the signals that were passed on.

    A rank that died of one of these had not begun to train: the same command continues.
    """
    if not codes:
        return EXIT_DONE
    if all(code == EXIT_RUN_AGAIN or -code in sent or code - 128 in sent for code in codes):
        return EXIT_RUN_AGAIN
    code = next((code for code in codes if -code not in sent), codes[0])
    return 128 - code if code < 0 else code or EXIT_CRASHED
