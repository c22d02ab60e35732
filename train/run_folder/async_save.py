"""Checkpoints written while training goes on: the loop waits for a copy in memory, threads do the rest.

Every rank copies its fragments (the loop waits for this), and a thread writes them, with a digest. Rank 0's thread
waits for all digests, names the folder, and removes old checkpoints. Whether the ranks have written, or could not,
travels in the message that every step sends anyway, without a collective of its own. If one could not (a full disk),
all give up this checkpoint.
"""

from __future__ import annotations

import secrets
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mytalk.command import UserError, note, one_line
from train.config import LoopConfig
from train.engine.distributed import Ranks
from train.run_folder import checkpoint
from train.run_folder.run_log import RunLog

LOOK_EVERY_S, LOOK_AT_LEAST_EVERY_S = 0.02, 1.0  # for the other ranks' digests; the pause grows
LEAVING_S = 10.0  # wait for them when the run ends by an error


class Unsaved(UserError):
    """A checkpoint could not be written."""


class AsyncSaver:
    """One checkpoint at a time, of these fragments (views that stay valid over the run)."""

    def __init__(self, config: LoopConfig, pieces: Sequence[checkpoint.Piece], log: RunLog, ranks: Ranks):
        self.run, self.config, self.log, self.ranks = Path(config.run), config, log, ranks
        self.copy = checkpoint.HostCopy(pieces)
        self.step, self.facts = -1, dict[str, Any]()  # of the last checkpoint that was started
        self.open = False  # whether the ranks have not agreed on its end yet
        self.failure = ""  # of this rank, in words
        self.thread: threading.Thread | None = None
        # Names this start of the run, so that files left by another start are not taken for its own.
        self.token = ranks.gather([secrets.token_hex(4)])[0]
        self.wait_until = 0.0  # for the other ranks
        self.blocks = 0  # that this rank has written so far
        self.lost: list[int] = []  # steps whose checkpoint could not be written, the same on all ranks

    def __enter__(self) -> AsyncSaver:
        return self

    def __exit__(self, *_: object) -> None:
        """However it ends, this rank finishes a checkpoint it has started; rank 0 waits a moment for the others."""
        if self.thread is not None:
            self.wait_until = time.monotonic() + LEAVING_S
            self.thread.join()

    def save(self, step: int, facts_of: Callable[[], dict[str, Any]]) -> None:
        """Copy the fragments and begin to write them. All ranks call it; the one before it is finished first.

        `facts_of` is asked after that, for what the new one says of the old ones.
        """
        began = time.perf_counter()
        self._settle(self.config.failed_checkpoint == "go_on")
        waited = time.perf_counter()
        self.copy.take()
        self.step, self.facts, self.open, self.failure = step, facts_of(), True, "its thread ended early"
        self.wait_until = float("inf")
        self.log.flush()
        self.thread = threading.Thread(target=self._write, daemon=True, name="saver")
        self.thread.start()
        self.log.checkpoint(step, wait_s=waited - began, copy_s=time.perf_counter() - waited)

    def message(self) -> dict[str, float]:
        """This rank's part of the step's message; `proceed` takes the sum over the ranks."""
        busy = self.thread is not None and self.thread.is_alive()
        return {"saving": float(busy), "unsaved": float(bool(self.failure) and not busy)}

    def proceed(self, total: dict[str, float]) -> None:
        """Note that the checkpoint is complete, or failed: then go on without it, or raise Unsaved on all ranks."""
        self._proceed(total, self.config.failed_checkpoint == "go_on")

    def finish(self) -> None:
        """Wait until the checkpoint that was started is complete. All ranks call it.

        Raises Unsaved on all of them where it cannot be written.
        """
        self._settle(go_on=False)

    def _settle(self, go_on: bool) -> None:
        if self.open:
            self.ranks.watchdog.alive(f"waiting for the checkpoint of step {self.step} to be written")
        blocks = -1.0
        while self.open:
            total = self.ranks.sum({**self.message(), "blocks": self.blocks})
            if total["blocks"] != blocks:  # some rank makes progress
                blocks = total["blocks"]
                self.ranks.watchdog.still()
            self._proceed(total, go_on)
            if self.open:
                time.sleep(LOOK_EVERY_S)

    def _proceed(self, total: dict[str, float], go_on: bool) -> None:
        if not self.open or (total["saving"] and not total["unsaved"]):
            return
        self.open = False
        if not total["unsaved"]:
            return
        self.wait_until = 0.0
        if self.thread is not None:
            self.thread.join()
        reasons = self.ranks.gather([self.failure] if self.failure else [])  # after it, nobody writes any more
        self.failure = ""
        if self.ranks.rank == 0:
            checkpoint.discard(self.run, self.step, self.token)
        before = checkpoint.newest(self.run)
        stays = f"that after step {checkpoint.step_of(before)} stays" if before else "there is none before it"
        words = f"the checkpoint after step {self.step} could not be written and {stays}: {reasons[0]}"
        self.lost.append(self.step)
        if not go_on:
            raise Unsaved(words)
        self.log.warn(self.step, f"{words}; training goes on, the next is due in {self.config.checkpoint_every} steps")

    def _write(self) -> None:
        """A rank's thread. Rank 0 notes in the run folder how long it took until the checkpoint had its name."""
        began = time.perf_counter()
        ranks, folder = self.ranks, checkpoint.temporary(self.run, self.step, self.token)
        try:
            checkpoint.write_rank(self.copy, folder, ranks.rank, ranks.world_size, self._tick)
            self._tick()
            if ranks.rank == 0:
                if not self._wait_for_others(folder):
                    self.failure = ""  # theirs is the reason
                    return
                self.log.sync()  # before a checkpoint says that these steps are done
                checkpoint.commit(self.run, self.step, self.facts, ranks.world_size, self.token)
                note(self.run, "checkpoint", step=self.step, written_s=round(time.perf_counter() - began, 3))
                self._tick()
            self.failure = ""
        except OSError as error:
            self.failure = one_line(error)
            return
        if ranks.rank == 0:
            try:
                checkpoint.prune(self.run, self.config.keep_last, self.config.keep_every, self._tick)
            except OSError as error:  # the new one is there all the same
                print(f"warning: old checkpoints could not be removed: {one_line(error)}", file=sys.stderr, flush=True)

    def _tick(self) -> None:
        self.blocks += 1
        self.ranks.watchdog.still()

    def _wait_for_others(self, folder: Path) -> bool:
        """Until every rank has written; whether they have."""
        pause_s = LOOK_EVERY_S
        for rank in range(self.ranks.world_size):
            while not checkpoint.written(folder, rank, self.ranks.world_size):
                if time.monotonic() > self.wait_until:
                    return False
                time.sleep(pause_s)
                pause_s = min(1.5 * pause_s, LOOK_AT_LEAST_EVERY_S)
        return True
