"""One rank of this machine: its process, its output, and why it failed."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import tty
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
KEPT_BYTES = 65536
SHOWN_LINES = 30
PR_SET_PDEATHSIG = 1  # linux/prctl.h


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
