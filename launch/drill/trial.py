"""One training that a drill disturbs: starting it, watching its run folder, finding its ranks, and comparing it."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from launch.drill import act
from launch.drill.by_slurm import BySlurm
from launch.drill.places import ByHosts, Here, NotTried
from mytalk.command import EVENTS, EXIT_DONE

POLL_S, HURRY_S = 0.005, 2.0
RTOL = 1e-4  # of losses, fp32, between world sizes
Place = Here | ByHosts | BySlurm


@dataclass
class Trial:
    """A training of its own run folder; `words` are those of the user without run=..."""

    words: list[str]
    run: Path
    place: Place
    limit_s: float  # for what must come
    log: Path = field(init=False)
    process: subprocess.Popen | None = field(default=None, init=False)  # of the last start

    def __post_init__(self) -> None:
        self.log = self.run.with_suffix(".log")

    def start(self, *options: str, more: tuple[str, ...] = ()) -> subprocess.Popen:
        """Start it by the launcher of its place; what it says goes to the log."""
        launch = ["-m", "launch", *self.place.launcher(self.run), *options, "--"]
        self.run.parent.mkdir(parents=True, exist_ok=True)
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, *launch, *self.words, f"run={self.run}", *more],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self.process

    def wait(self, process: subprocess.Popen) -> int:
        """Until it has ended; its exit code. Raises NotTried where it does not end in time."""
        deadline = time.monotonic() + self.limit_s
        while True:
            try:
                return process.wait(HURRY_S)
            except subprocess.TimeoutExpired:
                self.place.hurry(self.run)
            if time.monotonic() > deadline:
                raise NotTried(f"it did not end within {self.limit_s:g} s; see {self.log}")

    def close(self) -> None:
        """End what still runs: a fault that could not be brought about leaves nothing behind."""
        if self.process is not None and self.process.poll() is None:
            self.place.end(self.run, self.process)
            self.process.wait()

    def finish(self, code: int, *options: str, more: tuple[str, ...] = (), tries: int = 3) -> None:
        """Type the same command again until it is done."""
        while code != EXIT_DONE:
            if not tries:
                raise NotTried(f"it ended with exit code {code}; see {self.log}")
            code, tries = self.wait(self.start(*options, more=more)), tries - 1

    def until(self, holds: Callable[[], bool], process: subprocess.Popen, what: str) -> None:
        """Wait for something while the training runs. Raises NotTried where it ends first."""
        deadline = time.monotonic() + self.limit_s
        while not holds():
            if process.poll() is not None:
                raise NotTried(f"it ended with exit code {process.returncode} before {what}; see {self.log}")
            if time.monotonic() > deadline:
                raise NotTried(f"after {self.limit_s:g} s still not: {what}; see {self.log}")
            time.sleep(POLL_S)

    def under_way(self, process: subprocess.Popen, steps: int = 3) -> None:
        """Wait until training has taken some steps since this start, and has a checkpoint."""
        before = len(self.steps())
        self.until(lambda: len(self.steps()) >= before + steps and self.saved(), process, f"{steps} steps were taken")

    def saved(self) -> bool:
        """Whether there is a whole checkpoint."""
        return any((self.run / "checkpoints").glob("step-*/checkpoint.json"))

    def writing(self) -> bool:
        """Whether a checkpoint is being written."""
        return act.writing(self.run)

    def said(self, text: str) -> bool:
        """Whether the log of training holds this text."""
        return self.log.exists() and text in self.log.read_text(errors="replace")

    def ranks(self) -> dict[int, int]:
        """The processes of the ranks of training, wherever they run."""
        return self.place.act(self.run, "list")

    def hit_last(self, number: signal.Signals) -> None:
        """Send a signal to its last rank. Raises NotTried where that is gone."""
        last = self.place.processes - 1
        if last not in self.place.act(self.run, number.name, last):
            raise NotTried(f"rank {last} was not there any more; give more --steps")

    def starts(self) -> int:
        """How often training has begun."""
        file = self.run / EVENTS
        lines = file.read_text().splitlines() if file.exists() else []
        return sum('"event": "start"' in line for line in lines)

    def steps(self) -> dict[int, dict]:
        """Its finished steps by number."""
        found = {}
        file = self.run / "metrics.jsonl"
        for line in file.read_text().splitlines() if file.exists() else []:
            try:
                values = json.loads(line)
            except ValueError:  # being written
                continue
            if "keys" in values:
                found[values["step"]] = values
        return found


@dataclass(frozen=True)
class Difference:
    """What differs between two runs."""

    steps: int  # that only one of them has
    keys: int  # steps whose examples differ
    loss: float  # largest relative difference of a loss

    def __bool__(self) -> bool:
        return bool(self.steps or self.keys) or not self.loss <= RTOL


def difference(ours: dict[int, dict], theirs: dict[int, dict]) -> Difference:
    """Between the steps of two runs."""
    shared = ours.keys() & theirs.keys()
    largest = 0.0
    for step in shared:
        for name in (name for name in theirs[step] if name.startswith("loss/")):
            one, other = ours[step].get(name), theirs[step][name]
            if one != other:
                finite = one is not None and other is not None and math.isfinite(one) and math.isfinite(other)
                largest = max(largest, abs(one - other) / max(abs(other), 1e-12) if finite else math.inf)
    keys = sum(ours[step]["keys"] != theirs[step]["keys"] for step in shared)
    return Difference(len(ours.keys() ^ theirs.keys()), keys, largest)


def environment() -> dict[str, str]:
    """Of commands that the drill types."""
    return {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
