"""The tasks of an extraction, a shard each: which are left, and doing them together with the folder's other workers.

A task owns its shard: the same sources give the same bytes, whoever makes it, and `parts/NNNNNN.json`, written last by
a rename, commits it. So a task that two workers do is done once.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import string
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_pipeline import pool
from data_pipeline.extract import hearing, process, transnet
from data_pipeline.extract.listing import sources, walk
from data_pipeline.extract.process import ShardTask
from data_pipeline.extract.rules.rules import Rules
from data_pipeline.extract.video import Tools
from data_pipeline.extract.work import protocol, publish
from data_pipeline.extract.work.watch import Watch
from data_pipeline.pool import Failure
from data_pipeline.shards import layout
from data_pipeline.shards.table.parts import finished_part
from data_pipeline.storage import inputs
from data_pipeline.tasks import board as boards
from data_pipeline.tasks.board import Board
from data_pipeline.tasks.runner import Runner
from mytalk import atomic, command, faults
from mytalk.face import detector

FOLDER = "tasks"


@dataclass(frozen=True)
class Job:
    """What an extraction is told."""

    videos: Path | str
    out: Path
    corpus: str
    rules: Rules
    detector: str
    shots: str
    limits: pool.TimeLimits
    runner: Runner
    scratch_bytes: int = 8 << 30  # of remote videos on the local disk, in all
    to: str = ""  # where the tars go


@dataclass
class Outcome:
    """What this worker did: frames that it read. `aside`: the shards that nobody could make, and why."""

    frames: int = 0
    aside: dict[int, str] = dataclasses.field(default_factory=dict)


def board_of(out: Path, lease_s: float) -> Board:
    """The board of an extraction's shards."""

    def all_done() -> set[int]:
        try:
            found = os.listdir(out / "parts")
        except FileNotFoundError:
            return set()
        return {int(name[:-5]) for name in found if name.endswith(".json") and name[:-5].isdecimal()}

    return Board(out / FOLDER, lambda shard: layout.part_path(out, shard).exists(), all_done, lease_s)


def pending(board: Board, out: Path, listed: list[sources.Source], sent: bool = False) -> list[int]:
    """Shards that are to be made. To be called alone (`board.alone`).

    Where nobody is at work it cleans up first: what killed workers left, and parts whose tars are lost.
    `sent`: tars lie elsewhere.
    """
    shards = sorted({source.shard for source in listed})

    def clean() -> None:
        sweep(out)
        for shard in shards if not sent else ():
            path = layout.part_path(out, shard)
            if path.exists() and finished_part(out, path, shard) is None:
                path.unlink()

    return board.begin(shards, clean=clean)


def sweep(out: Path) -> None:
    """Remove what killed workers of an extraction left; other commands may be writing into the same folder."""
    atomic.sweep(out, (*(f"{column}-" for column in layout.COLUMNS), inputs.REMOTE, *publish.LISTS))
    atomic.sweep(out / "parts", tuple(string.digits))
    atomic.sweep(out / "rejected")


def extract(job: Job, board: Board, shards: list[int], listed: list[sources.Source], found: walk.Found) -> Outcome:
    """Make shards until none is left that any worker could make."""
    members: dict[int, list[sources.Source]] = {shard: [] for shard in shards}
    for source in listed:
        if source.shard in members:
            members[source.shard].append(source)
    if not shards:
        return Outcome()
    if not found.unlisted and not any(
        source.path in found.bytes_of or not source.bytes for group in members.values() for source in group
    ):
        raise command.UserError(
            f"none of the listed videos that are left is in {job.videos}; is that the folder, and is it mounted?"
        )
    protocol.pin(job.out, job.detector, job.shots, job.rules)
    watch = Watch(job.videos, listed, board, members)

    def task_of(shard: int) -> ShardTask:
        group = tuple(members[shard])
        task = ShardTask(job.videos, job.out, shard, group, job.corpus, job.rules, job.detector, job.shots)
        task = dataclasses.replace(task, scratch_bytes=job.scratch_bytes // max(job.runner.workers, 1), to=job.to)
        return _without_the_gone(task, found)

    def on_done(task: ShardTask, part: dict[str, Any]) -> None:
        board.release(task.shard)
        watch.on_done(task, part)

    def set_aside(task: ShardTask, failure: Failure) -> None:
        reason = failure.message.strip().splitlines()[-1]
        faults.log_text(job.out, f"shard {task.shard}", failure.message)
        board.set_aside(task.shard, reason)
        watch.progress.say(f"shard {task.shard} is set aside: {reason}")

    hooks = pool.Hooks(on_done, watch.on_tick, watch.on_failed, condemned, set_aside)
    aside = boards.work_through(board, shards, lambda claimed: _run(job, map(task_of, claimed), hooks))
    watch.end()
    return Outcome(watch.frames, {shard: board.reason(shard) for shard in aside})


def _run(job: Job, tasks: Iterable[ShardTask], hooks: pool.Hooks) -> None:
    job.runner.run(tasks, make_shard, hooks, job.limits)


def make_shard(task: ShardTask, tick) -> dict[str, Any]:
    """The work of a worker process: one shard, with one thread and one detector for its whole life."""
    return process.write_shard(task, tools(task.detector, task.shots), tick)


@functools.cache
def tools(name: str, shots_name: str = process.ADAPTIVE) -> Tools:
    """What a worker needs: created once in its process."""
    import cv2

    from mytalk.face.mediapipe_hands import Hands

    cv2.setNumThreads(1)
    network = transnet.load() if shots_name == process.TRANSNET else None
    return Tools(detector.load(name), hearing.speech_detector(), Hands().covers_mouth, network)


def condemned(task: ShardTask, item: int, failure: Failure) -> ShardTask:
    """The task with a source that is rejected unread."""
    return dataclasses.replace(task, condemned={**task.condemned, item: failure})


def _without_the_gone(task: ShardTask, found: walk.Found) -> ShardTask:
    """The task without the sources that have vanished or changed since they were listed."""
    for position, source in enumerate(task.sources):
        size = found.bytes_of.get(source.path)
        if source.bytes == 0:  # unknown: nobody can list it
            continue
        if size is None:
            task = condemned(task, position, Failure(walk.MISSING, "no longer there"))
        elif size != source.bytes:
            message = f"it had {source.bytes} bytes when it was listed and has {size}"
            task = condemned(task, position, Failure(process.CHANGED, message))
    return task
