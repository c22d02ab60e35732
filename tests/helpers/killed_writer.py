"""Writes checkpoints until it is killed, again and again: `python -m tests.helpers.killed_writer RUN ROUNDS SEED`.

Each round forks a process that writes checkpoints of two ranks into RUN and tells the steps that it has committed;
it is killed after a random moment. After each kill the newest checkpoint must be whole, hold what its step says, and be
no older than the last that was committed. Prints how many rounds were killed in the middle of a write.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

from mytalk import atomic
from train.run_folder import checkpoint

NUMEL, WORLD = 60_000, 2
SHAPES = {"net": {"w": [NUMEL]}}


def write(run: Path, step: int) -> None:
    """One checkpoint, of values that tell its step."""
    folder, half = checkpoint.temporary(run, step), NUMEL // WORLD
    for rank in range(WORLD):
        pieces = [(f"net/{kind}/w@{rank * half}", torch.full((half,), float(step))) for kind in checkpoint.KINDS]
        copy = checkpoint.HostCopy(pieces)
        copy.take()
        checkpoint.write_rank(copy, folder, rank, WORLD)
    checkpoint.commit(run, step, {"shapes": SHAPES}, WORLD)
    checkpoint.prune(run, 2, 0)


def write_on(run: Path, told: int) -> None:
    """Go on after the newest, telling each step once it is committed."""
    atomic.sweep(run / "checkpoints")
    newest = checkpoint.newest(run)
    step = checkpoint.step_of(newest) if newest else 0
    while True:
        step += 1
        write(run, step)
        os.write(told, f"{step}\n".encode())


def check(run: Path, committed: int) -> None:
    """What is there after a kill."""
    newest = checkpoint.newest(run)
    assert newest is not None or committed == 0, f"step {committed} was committed and is gone"
    if newest is not None:
        loaded = checkpoint.load(newest)
        assert loaded.step >= committed, f"step {committed} was committed, the newest is {loaded.step}"
        for kind in checkpoint.KINDS:
            assert (loaded.tensors["net"][kind]["w"] == loaded.step).all(), kind


def main(run: Path, rounds: int, seed: int) -> int:
    """Kill so many writers."""
    chance, committed, torn = random.Random(seed), 0, 0
    (run / "checkpoints").mkdir(parents=True)
    for _ in range(rounds):
        read, told = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(read)
            write_on(run, told)
        os.close(told)
        time.sleep(chance.uniform(0, 0.08))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        said = b""
        while block := os.read(read, 65536):
            said += block
        os.close(read)
        committed = max([committed, *map(int, said.split())])
        torn += any(atomic.TEMPORARY in path.name for path in (run / "checkpoints").iterdir())
        check(run, committed)
    print(f"{torn} of {rounds} killed while something was unfinished; {committed} committed")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
