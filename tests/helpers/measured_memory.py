"""Trains two steps at every ZeRO stage and writes the most bytes that malloc had given out on rank 0.

torchrun --nproc-per-node 2 -m tests.helpers.measured_memory OUT.json RECIPE CONFIG SETTING...

malloc is asked, not torch's profiler: that sees no tensor go that another thread lets go of, as gloo's does.
"""

from __future__ import annotations

import ctypes
import gc
import json
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from mytalk import config
from mytalk.command import end
from tests.helpers.train_matrix import RECIPES
from train import loop
from train.dry_run import STAGES
from train.engine import distributed

EVERY_S = 0.001


class Mallinfo2(ctypes.Structure):
    """What glibc's mallinfo2 returns."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "_")
    )


def given_out() -> int:
    """Bytes that malloc has given out and not taken back, of all threads."""
    ask = ctypes.CDLL(None).mallinfo2
    ask.restype = Mallinfo2
    found = ask()
    return found.uordblks + found.hblkhd


def most_given_out(work: Callable[[], object]) -> int:
    """The most bytes that malloc has given out during some work, above what it had before."""
    gc.collect()
    before, most, over = given_out(), 0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not over.wait(EVERY_S):
            most = max(most, given_out() - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        work()
    finally:
        over.set()
        watcher.join()
    return most


def main(out: str, recipe: str, file: str, settings: list[str]) -> int:
    """Measure, and write {stage: bytes}."""
    joined, found = distributed.join(), {}
    schema, make = RECIPES[recipe]
    for number, stage in enumerate((0, 1, *STAGES)):  # what is loaded once and kept, without and with ZeRO, comes first
        given = [*settings, f"zero_stage={stage}", f"run={out}-{number}", "steps=2", "workers=0"]
        made = config.load(schema, file, given)

        def train(made=made) -> int:
            return loop.train(make(made), made, joined)

        found[str(stage)] = most_given_out(train)
    if joined.rank == 0:
        Path(out).write_text(json.dumps(found))
    distributed.leave()
    return 0


if __name__ == "__main__":
    end(main(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:]))
