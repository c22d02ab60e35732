"""A command's work on the shards of one folder, done by any number of processes and machines at once.

Each shard is a task, claimed by its lease (board.py). One process at a time plans, and one, when all tasks are done,
puts together what they made; the others print what it says. Where the tasks are done: runner.py.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from data_pipeline import pool
from data_pipeline.pool import Failure, TimeLimits
from data_pipeline.tasks.board import LOOK_EVERY_S, PLAN, Board, leaving_on_term, work_through
from data_pipeline.tasks.runner import Runner
from mytalk.command import UserError
from mytalk.progress import Progress

IDLE_S = 600.0
Task = TypeVar("Task")


@dataclass(frozen=True)
class Plan:
    """What is to be made. `kind` changes with what it is made of and how; `units` of each task, by its number."""

    kind: str
    units: dict[int, int]


class Job(Generic[Task]):
    """What a command brings; `name` stands before its progress. `board`: a folder for the leases alone.

    `tasks`, as `work` takes them, by number: set by `plan`.
    """

    name = ""
    unit = "clips"
    tasks: dict[int, Task]

    def __init__(self, board: Path):
        self.board = board

    def plan(self) -> Plan:
        """Read the folder; called alone. Raises UserError."""
        raise NotImplementedError

    def clean(self) -> None:
        """Remove what was made of other inputs, and what killed processes left; where nobody else works, and alone."""

    def done(self, number: int) -> bool:
        """Whether a task is done. To be quick."""
        raise NotImplementedError

    def all_done(self) -> set[int]:
        """The numbers of all tasks that are done."""
        raise NotImplementedError

    def work(self) -> pool.Work:
        """What does a task and commits it, the same bytes each time; for other processes, a function of a module."""
        raise NotImplementedError

    def took(self, number: int, result: Any) -> None:
        """This process has done a task."""

    def condemn(self, task: Task, item: int, failure: Failure) -> Task:
        """The task without an item that kills workers."""
        raise NotImplementedError

    def note(self) -> str:
        """Stands behind the progress."""
        return ""

    def close(self) -> Any:
        """All tasks are done: what all processes are told, as JSON; called alone."""
        raise NotImplementedError


def together(job: Job[Any], runner: Runner) -> Any:
    """Do a job's tasks with whoever else does them, and close it once; what `close` said.

    Raises UserError where others do other work in the folder, or a task's workers died twice.
    """
    with leaving_on_term(), Board(job.board, job.done, job.all_done, runner.lease_s) as board:
        with board.alone(PLAN):
            plan = job.plan()
            left = board.begin(plan.units, plan.kind, job.clean)
            if not left:
                return board.close(plan.kind, job.close())
        aside = _work_through(job, board, plan, left, runner)
        if aside:
            reason = board.reason(aside[0])
            raise UserError(f"shard {aside[0]} is set aside ({reason}); type the same command to try it again")
        with board.alone(PLAN):
            said = board.closed(plan.kind)
            return board.close(plan.kind, job.close()) if said is None else said


def _work_through(job: Job[Any], board: Board, plan: Plan, left: list[int], runner: Runner) -> list[int]:
    counter = _Counter(job, board, plan, left)

    def on_done(task: Any, result: Any) -> None:
        job.took(task.shard, result)
        board.release(task.shard)

    def on_failed(task: Any, item: int, failure: Failure) -> None:
        counter.progress.say(f"shard {task.shard}, clip {item}: {failure.cause}: {failure.message}")

    hooks = pool.Hooks[Any](on_done, lambda task, item, n: counter.step(task.shard, n), on_failed, job.condemn)
    limits = TimeLimits(idle_s=IDLE_S)

    def do(claimed: Iterator[int]) -> None:
        tasks = (job.tasks[number] for number in counter.taken(claimed))
        runner.run(tasks, job.work(), hooks, limits)

    aside = work_through(board, left, do)
    counter.finish()
    return aside


class _Counter:
    """The progress: what this process does as it does it, of the others' what is finished."""

    def __init__(self, job: Job[Any], board: Board, plan: Plan, left: list[int]):
        self.job, self.board, self.units = job, board, {number: plan.units[number] for number in left}
        total = sum(plan.units.values())
        self.progress = Progress(job.name, total, job.unit, done=total - sum(self.units.values()))
        self.mine: dict[int, int] = {}  # tasks of this process -> units that are left
        self.looked_s, self.workers = time.monotonic(), 1

    def taken(self, claimed: Iterator[int]) -> Iterator[int]:
        """Tasks of this process, which it counts step by step."""
        for number in claimed:
            self.mine[number] = self.units.pop(number, 0)
            yield number

    def step(self, number: int, n: int) -> None:
        """So many units more of a task are done here; those of a second try are not counted again."""
        n = min(n, self.mine[number])
        self.mine[number] -= n
        now = time.monotonic()
        if now - self.looked_s > LOOK_EVERY_S:
            self.looked_s, self.workers = now, 1 + len(self.board.others())
            n += self._of_others()
        others = f"{self.workers} workers" if self.workers > 1 else ""
        self.progress.step(n, "; ".join(filter(None, (others, self.job.note()))))

    def finish(self) -> None:
        """The closing line."""
        self.progress.done += self._of_others()
        self.progress.finish(self.job.note())

    def _of_others(self) -> int:
        return sum(self.units.pop(number) for number in self.board.finished() & self.units.keys())
