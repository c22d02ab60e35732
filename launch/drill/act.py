"""What is done to the ranks of a training on the machine where they run: `python -m launch.drill.act RUN WHAT [RANK]`.

WHAT is `list`, the name of a signal for the RANK, `full` (no file of theirs may grow, as on a full disk), `room`, or
`write` (KILL of all as soon as a checkpoint is being written).
Prints {rank: process id} of those it found.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import sys
import time
from pathlib import Path

WATCH_S, MOST_S = 0.001, 120.0  # between looks for a checkpoint, and how long it is waited for


def ranks(run: str) -> dict[int, int]:
    """The processes of this machine that train into a run folder, by rank; not what they themselves have started."""
    found: dict[int, tuple[int, int]] = {}  # process id -> rank, parent
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        with contextlib.suppress(OSError, ValueError, IndexError):
            words = (folder / "cmdline").read_bytes().split(b"\0")
            if os.fsencode(f"run={run}") not in words or b"train" not in words:
                continue
            told = dict(pair.split(b"=", 1) for pair in (folder / "environ").read_bytes().split(b"\0") if b"=" in pair)
            if b"RANK" in told:
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                found[int(folder.name)] = int(told[b"RANK"]), parent
    return {rank: pid for pid, (rank, parent) in sorted(found.items()) if parent not in found}


def writing(run: Path) -> bool:
    """Whether a checkpoint is being written, or was when it was killed."""
    return any((run / "checkpoints").glob(".tmp-step-*"))


def act(run: str, what: str, rank: int | None = None) -> dict[int, int]:
    """Bring about the fault `what`; returns the processes of the ranks that ran before it, by rank."""
    found, deadline = ranks(run), time.monotonic() + MOST_S
    if what in ("full", "room"):
        for pid in found.values():
            with contextlib.suppress(ProcessLookupError):
                _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (1 if what == "full" else hard, hard))
    elif what == "write":
        while not writing(Path(run)) and time.monotonic() < deadline:
            time.sleep(WATCH_S)
        for pid in found.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    elif what != "list" and rank in found:
        os.kill(found[rank], signal.Signals[what])
    return found


if __name__ == "__main__":
    print(json.dumps(act(sys.argv[1], sys.argv[2], *(int(text) for text in sys.argv[3:4]))))
