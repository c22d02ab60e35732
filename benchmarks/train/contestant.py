"""A contestant as the benchmark sees it: processes that are told a job, then turns of so many steps."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import harness
from benchmarks.train.jobs import Job
from mytalk import command
from mytalk.machine import free_port

TURN, FIRST = 2, 3  # steps of a turn, and before the clock runs


@dataclass
class Turn:
    """What a contestant's turn took in all, by the clock and of CPU time; `parts_s` where it was timed."""

    wall_s: float
    cpu_s: float
    faults: int  # pages that the system had to hand out
    parts_s: dict[str, float]
    writing: bool  # a checkpoint still is, at the end


class Contestant:
    """A run's processes, which do what they are told by lines of JSON: a job, then turns of so many steps.

    With `strangers`, so many runs of one process each. A `{n}` in a job's settings is the process's number.
    """

    def __init__(self, folder: Path, world_size: int = 1, strangers: int = 1):
        self.log = tempfile.NamedTemporaryFile("w+", dir=folder)  # noqa: SIM115  closed in __exit__
        places = [(rank, port) for port in (free_port() for _ in range(strangers)) for rank in range(world_size)]
        self.processes = [
            subprocess.Popen(
                [sys.executable, "-m", "benchmarks.train", "--contestant"],
                env={**os.environ, "OMP_NUM_THREADS": "1", **rank_of(rank, number, world_size, port)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.log,
                text=True,
                bufsize=1,
            )
            for number, (rank, port) in enumerate(places)
        ]

    def __enter__(self) -> Contestant:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            process.communicate()  # closes its input, of which it ends
        self.log.close()

    def tell(self, said: dict[str, Any]) -> None:
        for number, process in enumerate(self.processes):
            assert process.stdin is not None
            process.stdin.write(json.dumps(said).replace("{n}", str(number)) + "\n")

    def hear(self) -> dict[str, Any]:
        """What rank 0 answers, once all ranks have."""
        answers = []
        for process in self.processes:
            assert process.stdout is not None
            if not (line := process.stdout.readline()):
                said = Path(self.log.name).read_text().split("\n")
                errors = [line for line in said if "Error" in line] or [line for line in said if line]
                raise command.UserError(f"a contestant ended: {(errors or ['without a word'])[-1]}")
            answers.append(json.loads(line))
        return answers[0]

    def ask(self, job: Job) -> dict[str, Any]:
        self.tell(asdict(job))
        return self.hear()

    def turn(self, steps: int, timed: bool = False) -> Turn:
        self.tell({"steps": steps, "timed": timed})
        return Turn(**self.hear())

    def finish(self) -> dict[str, Any]:
        """Let it do its last step."""
        self.tell({"steps": -1, "timed": False})
        return self.hear()


def rank_of(rank: int, number: int, world_size: int, port: int) -> dict[str, str]:
    """The environment of a rank, as torchrun makes it; every process of a contestant has a device of its own."""
    named = {"RANK": rank, "LOCAL_RANK": number, "WORLD_SIZE": world_size, "MASTER_PORT": port}
    return {"MASTER_ADDR": "127.0.0.1", **{name: str(value) for name, value in named.items()}}


def take_turns(
    what: str, of: list[tuple[Contestant, Job]], rounds: int, steps: int = TURN, first: int = FIRST
) -> list[list[Turn]]:
    """The turns of each: `first` steps that are not looked at, then `rounds` of `steps`; who begins alternates.

    Each has a step left to do then, see `finish`; a job must have as many steps as `lasting` says.
    """
    for contestant, job in of:
        contestant.tell(asdict(job))
    for contestant, _ in of:
        contestant.hear()
    turns: list[list[Turn]] = [[] for _ in of]
    for contestant, _ in of:
        contestant.turn(first)
    for index in harness.turns(what, len(of), rounds):
        turns[index].append(of[index][0].turn(steps))
    return turns


def lasting(rounds: int, steps: int = TURN, first: int = FIRST, more: int = 0) -> str:
    """The setting of a job's steps for `take_turns`, and `more` after it."""
    return f"steps={first + rounds * steps + more + 1}"


def ratios(ours: list[Turn], theirs: list[Turn]) -> list[float]:
    return [own.wall_s / other.wall_s for own, other in zip(ours, theirs)]


def step_s(turns: list[Turn], steps: int = TURN) -> float:
    return float(np.median([turn.wall_s for turn in turns])) / steps
