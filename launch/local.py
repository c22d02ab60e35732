"""Several processes of one command on this machine: one terminal, one error, one exit code.

Rank 0's output passes through; what the others say is kept, and shown only if one of them is to blame for the
end. Unlike torchrun it hands the ranks' own exit code on, so that 75 still means "the same command continues".

Ranks have sessions of their own: Ctrl-C at a terminal reaches the launcher alone, which passes it on once. If the
launcher itself is killed, the kernel kills the ranks (PR_SET_PDEATHSIG, Linux only): nothing can be left behind,
and nothing is lost but the steps since the last checkpoint.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import re
import selectors
import signal
import subprocess
import sys
import time
import tty
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

from mytalk import command
from mytalk.command import EXIT_DONE, EXIT_RUN_AGAIN, UserError
from mytalk.machine import free_port

FOLDERS = ("train", "eval")
FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
POLL_S = 0.1
SETTLE_S = 3.0  # a rank that fails closes its connections before it has said why; wait this long for the reason
KEPT_BYTES = 65536
SHOWN_LINES = 30
PR_SET_PDEATHSIG = 1  # linux/prctl.h

TRACEBACK = re.compile(r"Traceback \(most recent call last\)")
ONE_LINE = re.compile(r"^python -m \S+.*: error: ")  # what mytalk.command.guarded prints
BROKEN_CONNECTION = re.compile(
    r"Connection (closed|reset|refused)|Broken pipe|Socket closed|gloo/transport|Dist(Network|Backend|Store)Error"
    r"|nccl(Remote|System)Error|NCCL communicator was aborted|recvValue failed|failed to recv"
)
SUSPICIOUS = re.compile(f"(?:{TRACEBACK.pattern}|{BROKEN_CONNECTION.pattern})".encode())


def arguments() -> argparse.ArgumentParser:
    """The command line of `python -m launch local`."""
    made = command.parser(
        "python -m launch local",
        "Run a command in several processes on this machine, usually one for each GPU. TERM, INT and USR1 are "
        "passed on to all of them: training then writes a checkpoint and ends with exit code 75, and the same "
        "command continues. The first process that fails ends the others; its error and its exit code are shown.",
        "python -m launch local --processes 8 -- train motion --config configs/paper/motion.yaml "
        "shards=data/mine run=runs/mine identity=runs/identity/model",
    )
    made.add_argument("--processes", type=int, required=True, metavar="N", help="how many processes to start")
    made.add_argument(
        "--threads", type=int, metavar="K", help="OMP_NUM_THREADS of each; else yours, else the cores divided by N"
    )
    made.add_argument(
        "--grace-s",
        type=float,
        default=60.0,
        help="seconds that the others have to end once one has ended, and from TERM to KILL (60)",
    )
    made.add_argument("words", nargs="*", metavar="-- FOLDER COMMAND ...", help="train or eval, and what follows")
    return made


def run(args: argparse.Namespace) -> int:
    """Refuse what cannot be started; start the rest."""
    check_words(args.words)
    if args.processes < 1:
        raise UserError(f"--processes must be at least 1, not {args.processes}")
    if args.threads is not None and args.threads < 1:
        raise UserError(f"--threads must be at least 1, not {args.threads}")
    if not args.grace_s >= 0:
        raise UserError(f"--grace-s must be at least 0, not {args.grace_s}")
    return start(args.words, args.processes, args.threads, args.grace_s)


def check_words(words: Sequence[str]) -> None:
    """UserError unless the words after -- name something that can be started."""
    if not words:
        raise UserError("nothing to start; name it after --, such as: -- train motion --config FILE")
    if words[0] not in FOLDERS:
        raise UserError(f"cannot start '{words[0]}'; the first word after -- must be {' or '.join(FOLDERS)}")


def start(words: Sequence[str], processes: int, threads: int | None = None, grace_s: float = 60.0) -> int:
    """Run `python -m WORDS` in `processes` processes and wait for them; the exit code of the whole.

    It takes over the process: handlers of signals, and it must be called before any thread is started.
    """
    crew = Crew(grace_s)
    before = {number: signal.signal(number, crew.forward) for number in FORWARDED}
    try:
        # A signal that comes while ranks are being started waits until it can be passed on to all of them.
        signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)
        for environment in environments(processes, threads):
            crew.add([sys.executable, "-m", *words], environment)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
        return crew.wait()
    finally:
        crew.kill()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
        for number, handler in before.items():
            signal.signal(number, handler)


def environments(processes: int, threads: int | None) -> list[dict[str, str]]:
    """The environment of each rank, as torchrun would set it."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    shared = {
        "OMP_NUM_THREADS": str(max(1, cores // processes)),
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
    """What a rank does between fork and exec: no handlers of ours, and death when the launcher dies.

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


@dataclass
class Tail:
    """The last of what was written to it."""

    kept: bytearray = field(default_factory=bytearray)

    def write(self, data: bytes) -> None:
        self.kept += data
        del self.kept[:-KEPT_BYTES]

    def last_words(self) -> list[str]:
        """The one line of an error that a user can mend; else the traceback; else the last lines."""
        lines = [line.rstrip() for line in self.kept.decode(errors="replace").splitlines() if line.strip()]
        lines = lines[-SHOWN_LINES:]
        for line in reversed(lines):
            if ONE_LINE.match(line):
                return [line]
        begins = [index for index, line in enumerate(lines) if TRACEBACK.search(line)]
        return lines[begins[0] :] if begins else lines


class Gate:
    """Rank 0's stderr on its way to ours. What looks like an error is held until it is known who is to blame."""

    def __init__(self, stream: BinaryIO):
        self.stream = stream
        self.held = bytearray()
        self.since: float | None = None  # when it began to hold
        self.shut = False

    def write(self, data: bytes) -> None:
        """Pass on what comes before the first sign of an error, hold the rest."""
        if self.since is None and (found := SUSPICIOUS.search(data)):
            line = data.rfind(b"\n", 0, found.start()) + 1
            self._pass(data[:line])
            self.hold()
            data = data[line:]
        if self.since is None:
            self._pass(data)
        else:
            self.held += data
            if len(self.held) > KEPT_BYTES:
                self.release()

    def hold(self) -> None:
        """Hold everything from now on."""
        if self.since is None:
            self.since = time.monotonic()

    def release(self) -> None:
        """Pass on what was held; it concerns the user."""
        self._pass(bytes(self.held))
        self.held.clear()
        self.since = None

    def drop(self) -> None:
        """Forget what was held and all that comes: it follows from another rank's failure."""
        self.held.clear()
        self.shut = True

    def _pass(self, data: bytes) -> None:
        if data and not self.shut:
            self.stream.write(data)
            self.stream.flush()


@dataclass
class Rank:
    """One process of the run; its exit code once it has ended (minus the signal that killed it)."""

    number: int
    process: subprocess.Popen
    tail: Tail
    code: int | None = None

    def symptom(self) -> int:
        """How likely its end follows from another's: 0 an error of its own, 1 a bug's traceback, 2 a lost peer."""
        said = self.tail.last_words()
        if BROKEN_CONNECTION.search("\n".join(said)):
            return 2
        own = (self.code or 0) < 0 or any(ONE_LINE.match(line) for line in said)
        return 0 if own else 1


class Crew:
    """The ranks of a run, started and waited for."""

    def __init__(self, grace_s: float):
        self.grace_s = grace_s
        self.ranks: list[Rank] = []
        self.selector = selectors.DefaultSelector()
        self.gate = Gate(sys.stderr.buffer)
        self.setup = child_setup()
        self.sent: set[int] = set()  # signals passed on
        self.cut_short = False  # a rank died of such a signal: it had not begun to train
        self.left_at: float | None = None  # when the first rank ended that wants to be run again
        self.failures: list[Rank] = []  # in the order of their deaths, until the rest are told to end
        self.first_failed_at = 0.0
        self.cause: Rank | None = None
        self.ended_at: float | None = None  # when the rest were told to end

    def add(self, typed: list[str], environment: dict[str, str]) -> None:
        """Start the next rank."""
        number, tail = len(self.ranks), Tail()
        if number == 0:

            def take_errors(data: bytes) -> None:
                tail.write(data)
                self.gate.write(data)

            out = self._channel(show, sys.stdout.isatty())
            err = self._channel(take_errors, sys.stderr.isatty())
        else:
            out = err = self._channel(tail.write, False)
        process = subprocess.Popen(
            typed,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
            preexec_fn=self.setup,
        )
        for end in {out, err}:
            os.close(end)
        self.ranks.append(Rank(number, process, tail))

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
            self._blame()
        self.gate.release()
        if self.cause is not None:
            return exit_code(self.cause.code)
        return EXIT_DONE if all(rank.code == EXIT_DONE for rank in self.ranks) else EXIT_RUN_AGAIN

    def kill(self) -> None:
        """KILL what is left, with the processes that it started."""
        for rank in self._alive():
            if rank.process.poll() is None:
                os.killpg(rank.process.pid, signal.SIGKILL)
                rank.process.wait()

    def _alive(self) -> list[Rank]:
        return [rank for rank in self.ranks if rank.code is None]

    def _channel(self, take: Callable[[bytes], None], terminal: bool) -> int:
        """The writing end for a rank, whose data goes to `take`; a terminal where ours is one (moving lines)."""
        if terminal:
            read, write = os.openpty()
            tty.setraw(write)
        else:
            read, write = os.pipe()
        self.selector.register(read, selectors.EVENT_READ, take)
        return write

    def _read(self, timeout_s: float) -> bool:
        """Take what the ranks have written; whether there was anything."""
        if not self.selector.get_map():  # all have closed their output
            time.sleep(timeout_s)
            return False
        ready = self.selector.select(timeout_s)
        # stderr (opened later) first: the closing progress line comes before what is said about the result.
        for key, _ in sorted(ready, key=lambda pair: -pair[0].fd):
            try:
                data = os.read(key.fd, 65536)
            except OSError:  # a terminal says so when its other end was closed
                data = b""
            if data:
                key.data(data)
            else:
                self.selector.unregister(key.fd)
                os.close(key.fd)
        return bool(ready)

    def _collect(self) -> None:
        """Note who has ended, and how."""
        ended = [rank for rank in self._alive() if rank.process.poll() is not None]
        if not ended:
            return
        until = time.monotonic() + 1  # what it started may go on writing to the same pipe
        while self._read(0) and time.monotonic() < until:
            pass
        for rank in ended:
            rank.code = rank.process.returncode
            if rank.code in (EXIT_DONE, EXIT_RUN_AGAIN) or self.ended_at is not None:
                if rank.code == EXIT_RUN_AGAIN:
                    self.left_at = self.left_at or time.monotonic()
                continue
            if rank.code in {code for number in self.sent for code in (-number, 128 + number)}:
                self.cut_short = True
                continue
            if not self.failures:
                self.first_failed_at = time.monotonic()
            self.failures.append(rank)
            self.gate.hold()

    def _end_the_rest(self) -> None:
        """TERM to the rest once it is known why one failed, or when they stay after others have gone; KILL later."""
        now = time.monotonic()
        if self.ended_at is not None:
            if now - self.ended_at > self.grace_s:
                self.kill()
        elif self._settled(now):
            self.ended_at = now
            if self.failures:
                self._blame()
            elif not self.cut_short:
                self._name_who_stayed()
            for rank in self._alive():
                rank.process.terminate()
        elif not self.failures and self.gate.since is not None and now - self.gate.since > SETTLE_S:
            self.gate.release()  # an error that killed nobody

    def _settled(self, now: float) -> bool:
        """Whether the rest must end: at once if the failure explains itself, else after a moment."""
        if not self.failures:
            return self.cut_short or (self.left_at is not None and now - self.left_at > self.grace_s)
        return now - self.first_failed_at > SETTLE_S or any(rank.symptom() < 2 for rank in self.failures)

    def _name_who_stayed(self) -> None:
        """Some ranks hang, after others have ended and will run again: pass on why those did."""
        left = next(rank for rank in self.ranks if rank.code == EXIT_RUN_AGAIN)
        lines = [f"rank {left.number}: {line}" for line in left.tail.last_words()] if left.number else []
        stay = ", ".join(str(rank.number) for rank in self._alive())
        lines.append(f"python -m launch local: rank {stay} of {len(self.ranks)} did not end and is being stopped")
        print("\n".join(lines), file=sys.stderr, flush=True)

    def _blame(self) -> None:
        """Choose the failure that explains the others, and show it once."""
        # An error that all ranks have in common (a wrong key) is rank 0's, which has shown it already.
        self.cause = min(self.failures, key=lambda rank: (rank.symptom(), rank.symptom() == 0 and rank.number > 0))
        left = [rank for rank in self.ranks if rank.code == EXIT_RUN_AGAIN]
        if left and self.cause.symptom() == 2:  # those who lost it had a peer that will run again
            self.cause = left[0]
        number, total, said = self.cause.number, len(self.ranks), self.cause.tail.last_words()
        lines = []
        if said and said == self.ranks[0].tail.last_words():
            self.gate.release()
        else:
            self.gate.drop()
            lines = [f"rank {number}: {line}" for line in said]
        rest = "; the others are being stopped" if self._alive() else ""
        lines.append(f"python -m launch local: rank {number} of {total} {how_it_ended(self.cause.code)}{rest}")
        print(("\n" if sys.stderr.isatty() else "") + "\n".join(lines), file=sys.stderr, flush=True)


def show(data: bytes) -> None:
    """Pass on what rank 0 wrote to its stdout."""
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def exit_code(code: int | None) -> int:
    """A process's exit code as a shell would give it."""
    assert code is not None
    return 128 - code if code < 0 else code


def how_it_ended(code: int | None) -> str:
    """`ended with exit code 3` or `was killed by SIGKILL`."""
    assert code is not None
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
