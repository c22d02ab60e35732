"""Resources of the machine: cores, a free port, and a lock on a folder."""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import socket
from collections.abc import Iterator
from pathlib import Path

from mytalk.command import UserError

PORTS = range(20_000, 30_000)


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_port() -> int:
    """A TCP port of the loopback interface that is free now and outside the range that systems assign by themselves.

    It is bound seconds later, by another process. Raises UserError where none is free.
    """
    for port in random.SystemRandom().sample(PORTS, 1000):
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port
    raise UserError(f"no TCP port from {PORTS.start} to {PORTS.stop - 1} is free")


@contextlib.contextmanager
def sole_user(folder: Path, what: str) -> Iterator[None]:
    """Hold a folder's lock file `<what>.lock`; it is released when the process ends, however it ends.

    Raises UserError where another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / f"{what}.lock", "w") as handle:
        os.register_at_fork(after_in_child=handle.close)  # a worker that outlives a killed process must not hold it
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another {what} is at work in {folder}; wait for it, or stop it") from None
        yield
