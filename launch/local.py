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
import ctypes
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
import tty
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from launch.follow.restart import Ended, Policy, keep_running, next_world_size
from launch.words import at_least, check_words, global_batch, is_training, run_folder
from mytalk import command
from mytalk.command import ERROR_FILE, EXIT_DONE, EXIT_RUN_AGAIN, UserError
from mytalk.machine import cores, free_port

FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
POLL_S = 0.1
SETTLE_S = 3.0  # a rank that fails closes its connections before it leaves its reason; wait this long for the reason
KEPT_BYTES = 65536
SHOWN_LINES = 30
PR_SET_PDEATHSIG = 1  # linux/prctl.h


def arguments() -> argparse.ArgumentParser:
    """The command line of `python -m launch local`."""
    parser = command.parser(
        "python -m launch local",
        "Run a command in several processes on this machine, usually one for each GPU. TERM, INT and USR1 are "
        "passed on to all of them: training then writes a checkpoint and ends with exit code 75, and the same "
        "command continues. The first process that fails ends the others; its error and its exit code are shown.",
        "python -m launch local --processes 8 -- train motion --config configs/paper/motion.yaml "
        "shards=data/mine run=runs/mine identity=runs/identity/model",
    )
    parser.add_argument("--processes", type=int, required=True, metavar="N", help="how many processes to start")
    parser.add_argument(
        "--threads", type=int, metavar="K", help="OMP_NUM_THREADS of each; else yours, else the cores divided by N"
    )
    parser.add_argument(
        "--grace-s",
        type=float,
        default=60.0,
        help="seconds that the others have to end once one has ended, and from TERM to KILL (60)",
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
    parser.add_argument("words", nargs="*", metavar="-- FOLDER COMMAND ...", help="train or eval, and what follows")
    return parser


def run(args: argparse.Namespace) -> int:
    """Start the processes; UserError for what cannot be started."""
    check_words(args.words)
    at_least(1, processes=args.processes, threads=args.threads, min_processes=args.min_processes)
    at_least(0, restarts=args.restarts)
    if not args.grace_s >= 0:
        raise UserError(f"--grace-s must be at least 0, not {args.grace_s}")
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


def child_setup() -> Callable[[], None]:
    """What a rank does between fork and exec: default signal handlers, and an end when the launcher ends.

    Everything it needs is loaded here, in the launcher, which has one thread: that makes the fork safe.
    """
    launcher = os.getpid()
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None

    def setup() -> None:
        for number in FORWARDED:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
        if prctl is not None:
            prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != launcher:  # it died before the call
                os._exit(128 + signal.SIGKILL)

    return setup


class StderrGate:
    """Rank 0's stderr on its way to ours: passed on, but once the rank has failed held until the cause is known."""

    def __init__(self, error_file: Path):
        self.error_file = error_file  # written before the error is printed
        self.held = bytearray()
        self.decision: bool | None = None

    def write(self, data: bytes) -> None:
        """Pass on or hold what rank 0 has written."""
        if self.decision is None and self.error_file.exists():
            self.held += data
        elif self.decision is not False:
            write_through(sys.stderr, data)

    def decide(self, show: bool) -> None:
        """Show what is held and all that follows, or drop it: it follows from another rank's failure."""
        if self.decision is None:
            self.decision = show
            self.write(bytes(self.held))


@dataclass
class Rank:
    """One process of the run."""

    number: int
    process: subprocess.Popen
    error_file: Path
    output: bytearray = field(default_factory=bytearray)  # the end of it
    code: int | None = None  # once it has ended; minus the signal that killed it

    def keep(self, data: bytes) -> None:
        """Keep the end of its output."""
        self.output += data
        del self.output[:-KEPT_BYTES]

    def error(self) -> dict[str, Any]:
        """What `mytalk.command.leave_error` wrote; empty where it left nothing."""
        try:
            return json.loads(self.error_file.read_text())
        except FileNotFoundError:
            return {}

    def order_as_cause(self) -> int:
        """0 an error of its own, 1 a bug, 2 a lost peer: the lowest of all failures explains the others.

        A bug may be how another's failure shows. Libraries abort when they lose a peer.
        """
        assert self.code is not None
        kind = self.error().get("kind")
        if kind == "peer" or self.code == -signal.SIGABRT:
            return 2
        return 0 if kind in ("user", "machine") or self.code < 0 else 1

    def reason(self, debug: bool) -> list[str]:
        """Its error as one line, with the traceback of a bug or for --debug; its last lines where it left none."""
        error = self.error()
        if error and (debug or error["kind"] in ("bug", "peer")) and error["traceback"]:
            return error["traceback"].rstrip().splitlines()[-SHOWN_LINES:]
        if error:
            return [f"error: {error['message']}"]
        lines = [line.rstrip() for line in self.output.decode(errors="replace").splitlines()]
        return [line for line in lines if line][-SHOWN_LINES:]


class Supervisor:
    """Starts the ranks, relays their output, and ends the rest when one has failed."""

    def __init__(self, grace_s: float, error_folder: Path, debug: bool):
        self.grace_s = grace_s
        self.error_folder = error_folder
        self.debug = debug
        self.ranks: list[Rank] = []
        self.selector = selectors.DefaultSelector()
        self.gate = StderrGate(self._error_file(0))
        self.setup = child_setup()
        self.sent: set[int] = set()  # signals passed on
        self.died_of_signal = False  # a rank died of such a signal: it had not begun to train
        self.run_again_at: float | None = None  # when the first rank ended with 75
        self.failures: list[Rank] = []  # in the order of their ends, until the rest are told to end
        self.first_failed_at = 0.0
        self.cause: Rank | None = None
        self.ended_at: float | None = None  # when the rest were told to end

    def add(self, typed: list[str], environment: dict[str, str]) -> None:
        """Start the next rank."""
        number = len(self.ranks)
        error_file = self._error_file(number)
        if number == 0:
            out, read_out = channel(sys.stdout.isatty())
            err, read_err = channel(sys.stderr.isatty())
        else:
            out, read_out = err, read_err = channel(terminal=False)
        process = subprocess.Popen(
            typed,
            env={**environment, ERROR_FILE: str(error_file)},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
            preexec_fn=self.setup,
        )
        rank = Rank(number, process, error_file)
        self.ranks.append(rank)
        for end in {out, err}:
            os.close(end)
        if number == 0:
            self.selector.register(read_out, selectors.EVENT_READ, lambda data: write_through(sys.stdout, data))
            self.selector.register(read_err, selectors.EVENT_READ, self.gate.write)
        else:
            self.selector.register(read_out, selectors.EVENT_READ, rank.keep)

    def forward(self, number: int, _: object) -> None:
        """Handler of signals: pass it on to every rank."""
        self.sent.add(number)
        for rank in self._alive():
            rank.process.send_signal(number)

    def wait(self) -> int:
        """Until every rank has ended: relay, notice failures, end the rest. The exit code of the whole."""
        while self._alive():
            self._read(POLL_S)
            self._collect()
            self._end_the_rest()
        if self.failures and self.cause is None:
            self._show_cause()
        self.gate.decide(show=True)
        if self.cause is not None:
            return exit_code(self.cause.code)
        return EXIT_DONE if all(rank.code == EXIT_DONE for rank in self.ranks) else EXIT_RUN_AGAIN

    def ended(self, code: int) -> Ended:
        """How the whole ended, after `wait`."""
        killed = [rank for rank in self.failures if (rank.code or 0) < 0 and rank.code != -signal.SIGABRT]
        if self.cause is None:
            return Ended(code, told=bool(self.sent))
        error = self.cause.error()
        how = error.get("message", how_it_ended(self.cause.code))
        return Ended(code, error.get("kind", ""), f"rank {self.cause.number}: {how}", bool(self.sent), len(killed))

    def kill(self) -> None:
        """KILL what is left, with the processes that it started."""
        for rank in self._alive():
            if rank.process.poll() is None:
                os.killpg(rank.process.pid, signal.SIGKILL)
                rank.process.wait()

    def _error_file(self, number: int) -> Path:
        return self.error_folder / f"rank-{number}.json"

    def _alive(self) -> list[Rank]:
        return [rank for rank in self.ranks if rank.code is None]

    def _read(self, timeout_s: float) -> bool:
        """Take what the ranks have written; whether there was anything."""
        if not self.selector.get_map():  # all have closed their output
            time.sleep(timeout_s)
            return False
        ready = self.selector.select(timeout_s)
        # stderr (opened later) first: the closing progress line comes before what is printed about the result.
        for key, _ in sorted(ready, key=lambda pair: -pair[0].fd):
            try:
                data = os.read(key.fd, 65536)
            except OSError:  # so a terminal tells that its other end was closed
                data = b""
            if data:
                key.data(data)
            else:
                self.selector.unregister(key.fd)
                os.close(key.fd)
        return bool(ready)

    def _collect(self) -> None:
        """Note which ranks have ended, and how."""
        ended = [rank for rank in self._alive() if rank.process.poll() is not None]
        if not ended:
            return
        until = time.monotonic() + 1  # what it started may go on writing to the same pipe
        while self._read(0) and time.monotonic() < until:
            pass
        for rank in ended:
            rank.code = rank.process.returncode
            if rank.code == EXIT_RUN_AGAIN:
                self.run_again_at = self.run_again_at or time.monotonic()
            elif rank.code == EXIT_DONE or self.ended_at is not None:
                continue
            elif rank.code in {code for number in self.sent for code in (-number, 128 + number)}:
                self.died_of_signal = True
            else:
                self.first_failed_at = self.first_failed_at or time.monotonic()
                self.failures.append(rank)

    def _end_the_rest(self) -> None:
        """TERM to the rest once the cause of a failure is known, or when they stay after others; KILL later."""
        now = time.monotonic()
        if self.ended_at is not None:
            if now - self.ended_at > self.grace_s:
                self.kill()
        elif self._must_end(now):
            self.ended_at = now
            if self.failures:
                self._show_cause()
            elif not self.died_of_signal:
                self._show_who_stayed()
            for rank in self._alive():
                rank.process.terminate()

    def _must_end(self, now: float) -> bool:
        """Whether the rest must end: at once if a failure has its own cause, else after a moment."""
        if not self.failures:
            return self.died_of_signal or (self.run_again_at is not None and now - self.run_again_at > self.grace_s)
        return now - self.first_failed_at > SETTLE_S or any(rank.order_as_cause() < 2 for rank in self.failures)

    def _show_who_stayed(self) -> None:
        """Some ranks hang after others have ended with 75: show why those did."""
        first = next(rank for rank in self.ranks if rank.code == EXIT_RUN_AGAIN)
        stay = ", ".join(str(rank.number) for rank in self._alive())
        reason = [] if first.number == 0 else first.reason(self.debug)
        self._print(first, reason, f"rank {stay} of {len(self.ranks)} did not end and is being stopped")

    def _show_cause(self) -> None:
        """Choose the failure that explains the others, and show it once."""

        # An error that all ranks share (a wrong key) is taken from rank 0, which has printed it.
        def order(rank: Rank) -> tuple[int, bool]:
            return rank.order_as_cause(), rank.order_as_cause() == 0 and rank.number > 0

        self.cause = min(self.failures, key=order)
        run_again = [rank for rank in self.ranks if rank.code == EXIT_RUN_AGAIN]
        if run_again and self.cause.order_as_cause() == 2:  # they lost a peer that is to be run again
            self.cause = run_again[0]
        if error := self.cause.error():
            command.leave_error(error["kind"], error["message"], exit_code(self.cause.code))
        messages = [rank.error().get("message") for rank in (self.cause, self.ranks[0])]
        printed_by_rank_0 = self.cause.number == 0 or (messages[0] is not None and messages[0] == messages[1])
        self.gate.decide(show=printed_by_rank_0)
        reason = [] if printed_by_rank_0 else self.cause.reason(self.debug)
        rest = "; the others are being stopped" if self._alive() else ""
        number, total = self.cause.number, len(self.ranks)
        self._print(self.cause, reason, f"rank {number} of {total} {how_it_ended(self.cause.code)}{rest}")

    def _print(self, rank: Rank, reason: list[str], line: str) -> None:
        """Print a rank's reason, and a line of the launcher itself."""
        lines = [f"rank {rank.number}: {text}" for text in reason]
        start = "\n" if sys.stderr.isatty() else ""  # below a moving line
        print(start + "\n".join([*lines, f"python -m launch local: {line}"]), file=sys.stderr, flush=True)


def channel(terminal: bool) -> tuple[int, int]:
    """The ends to write and to read of a pipe, or of a terminal (where ours is one: progress stays one moving line)."""
    if not terminal:
        read, write = os.pipe()
        return write, read
    read, write = os.openpty()
    tty.setraw(write)
    return write, read


def write_through(stream: Any, data: bytes) -> None:
    """Write bytes to sys.stdout or sys.stderr at once."""
    stream.buffer.write(data)
    stream.buffer.flush()


def exit_code(code: int | None) -> int:
    """A process's exit code as a shell would give it."""
    assert code is not None
    return 128 - code if code < 0 else code


def how_it_ended(code: int | None) -> str:
    """`ended with exit code 3` or `was killed by SIGKILL`."""
    assert code is not None
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
