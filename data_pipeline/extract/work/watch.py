"""What a worker says while it extracts: progress, rate and yield of all workers, and failures."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

from data_pipeline import pool
from data_pipeline.extract import process
from data_pipeline.extract.listing import sources
from data_pipeline.extract.process import ShardTask
from data_pipeline.pool import Failure
from data_pipeline.shards import ledger as ledgers
from data_pipeline.storage.store import Store
from data_pipeline.tasks.board import Board
from mytalk import command
from mytalk.face.landmarks import FRAME_HZ
from mytalk.progress import Progress

MOST_IN_A_ROW = 10  # videos that the storage fails to give, before it is asked for
LOOK_EVERY_S = 5.0  # at what the other workers have done
SAMPLES = 10  # others, spread over the list


class Watch:
    """Follows the workers: shows progress, yield and failures, and stops when the storage is gone.

    Progress counts what all workers of all machines have finished; its rate and the time left are theirs together.
    """

    def __init__(
        self, videos: Path | str, listed: list[sources.Source], board: Board, members: dict[int, list[sources.Source]]
    ):
        self.videos, self.listed, self.board, self.members = videos, listed, board, members
        todo = sum(map(len, members.values()))
        self.progress = Progress("extract", len(listed), "sources", done=len(listed) - todo)
        self.looked_s, self.others = time.monotonic(), list[dict[str, Any]]()
        self.started, self.ticked, self.frames, self.failed_in_a_row = time.monotonic(), 0, 0, 0
        self.finished: set[tuple[int, int]] = set()  # (shard, position) of sources
        self.clips, self.kept_frames = 0, 0
        self.people: set[str] = set()
        self.states: Counter[str] = Counter()  # of spans

    def on_tick(self, task: ShardTask, item: int, n: int) -> None:
        """Count frames, and the sources before this one as finished."""
        self.ticked += n
        self.failed_in_a_row = 0 if n else self.failed_in_a_row
        before = len(self.finished)
        self.finished.update((task.shard, i) for i in range(item))
        self._look()
        self.progress.step(len(self.finished) - before, self.note())

    def _look(self) -> None:
        """Tell the other workers how far this one is, and count what they have done."""
        now = time.monotonic()
        self.board.owner.said = {"frames": self.ticked, "clips": self.clips, "kept_frames": self.kept_frames}
        if now - self.looked_s < LOOK_EVERY_S:
            return
        self.looked_s, self.others = now, list(self.board.others().values())
        for shard in self.board.finished() & self.members.keys():
            self.finished.update((shard, i) for i in range(len(self.members[shard])))

    def end(self) -> None:
        """All shards are made: the closing line."""
        self.looked_s = -LOOK_EVERY_S
        before = len(self.finished)
        self._look()
        self.progress.done += len(self.finished) - before
        self.progress.finish(self.note())

    def note(self) -> str:
        """Rate and yield so far, of all workers; people and rules of this one."""
        total = Counter(frames=self.ticked, clips=self.clips, kept_frames=self.kept_frames)
        for other in self.others:
            total.update({name: int(value) for name, value in other.items() if name in total})
        rate = total["frames"] / max(time.monotonic() - self.started, 1e-9)
        hours = total["kept_frames"] / FRAME_HZ / 3600
        said = f"{rate:.0f} frames/s; {total['clips']} clips, {hours:.3g} h, {len(self.people)} people"
        if self.others:
            said = f"{len(self.others) + 1} workers; {said}"
        rejected = self.states - Counter({ledgers.KEPT: self.states[ledgers.KEPT]})
        if rejected:
            share = 100 * rejected.total() / self.states.total()
            most = ", ".join(f"{rule} {count}" for rule, count in rejected.most_common(3))
            said += f"; {share:.0f} % of spans rejected ({most})"
        return said

    def on_done(self, task: ShardTask, part: dict[str, Any]) -> None:
        """Count what a finished shard holds; name its errors at once."""
        self.frames += sum(row.get("frames", 0) for row in part["sources"])
        self.clips += len(part["clips"])
        self.kept_frames += sum(clip["frames"] for clip in part["clips"])
        self.people.update(clip["facts"]["identity"] for clip in part["clips"])
        for row in part["sources"]:
            self.states.update(span["state"] for span in row["spans"])
            if row.get("reason") == process.ERROR:
                self.progress.say(f"{row['source']}: {row['message']}")
        self.on_tick(task, len(task.sources), 0)

    def on_failed(self, task: ShardTask, item: int, failure: Failure) -> None:
        """Name a failure. Raises RunAgain after many in a row, where no other video can be read either."""
        self.progress.say(f"{task.sources[item].path}: {failure.cause}: {failure.message}")
        self.failed_in_a_row += failure.cause in (process.STORAGE, pool.TIMEOUT)
        if self.failed_in_a_row < MOST_IN_A_ROW:
            return
        samples = self.listed[:: max(len(self.listed) // SAMPLES, 1)]
        if not any(_readable(source, self.videos) for source in samples):
            raise command.RunAgain(
                f"the last {self.failed_in_a_row} videos could not be read and {self.videos} seems to be gone; "
                "mount it and type the same command again"
            )
        self.failed_in_a_row = 0


def _readable(source: sources.Source, videos: Path | str) -> bool:
    """Whether a file's first byte can be read."""
    root, name = source.files(videos)[0]
    try:
        return bool(Store(root, tries=1).read([(name, 0, 1)])[0])
    except OSError:
        return False
