"""Follows a job that something else runs: its log as it grows, its state as it changes. Ctrl-C leaves it running."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

POLL_S, ASK_S = 0.5, 5.0  # between looks at the log, and between questions about the state
READ_BYTES = 1 << 20


@dataclass(frozen=True)
class State:
    """Where a job stands, in words; its exit code once it has ended for good."""

    words: str
    code: int | None = None


@contextlib.contextmanager
def leaving(name: str, back: str) -> Iterator[None]:
    """While a job is followed: on Ctrl-C the KeyboardInterrupt says how to come back (`mytalk.command` prints it)."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"{name} goes on without this terminal; come back with: {back}") from None


def attend(name: str, state: Callable[[], State], relay: Callable[[], bool]) -> int:
    """Show what `relay` passes on (it says whether there was anything) and every new state; the job's exit code.

    An end is believed when it is told twice: a job that is requeued has ended for a moment.
    """
    shown, ended, next_at = "", False, 0.0
    while True:
        if time.monotonic() >= next_at:
            found, next_at = state(), time.monotonic() + ASK_S
            if found.words != shown:
                relay()  # what was written before it
                print(f"{name}: {found.words}", file=sys.stderr, flush=True)
                shown = found.words
            if found.code is not None and ended:
                while relay():
                    pass
                return found.code
            ended = found.code is not None
        if not relay():
            time.sleep(POLL_S)


class Tail:
    """Passes on what a file gets, from where it begins or from its end on. It need not be there yet."""

    def __init__(self, file: Path, from_end_bytes: int | None = None):
        self.file, self.at = file, 0
        if from_end_bytes is not None and file.exists():
            self.at = max(0, file.stat().st_size - from_end_bytes)

    def __call__(self) -> bool:
        """Pass on what is new; whether there was anything."""
        try:
            with open(self.file, "rb") as opened:
                opened.seek(self.at)
                data = opened.read(READ_BYTES)
        except FileNotFoundError:
            return False
        self.at += len(data)
        if data:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        return bool(data)
