"""A process killed at any event, and the files that it left."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path

import torch


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def killed_after(what: Callable[[Callable[[], None]], object], events: int) -> tuple[int, int]:
    """Do something in a forked process, killed at an event: its own, a file about to be there, or there.

    Returns its exit code, or minus the signal, and the number of events.
    """
    torch.set_num_threads(1)  # the threads of the process that is forked are not in its child
    context = multiprocessing.get_context("fork")
    seen = context.Value("i", 0)

    def event() -> None:
        if seen.value == events:
            os.kill(os.getpid(), signal.SIGKILL)
        seen.value += 1

    def child() -> None:
        replace = os.replace

        def replaced(*paths):
            event()
            replace(*paths)
            event()

        os.replace = replaced
        what(event)

    process = context.Process(target=child)
    process.start()
    process.join(120)
    return process.exitcode, seen.value
