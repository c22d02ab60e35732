"""Ends a process in which nothing has happened for too long, and leaves the stacks of all its threads.

A rank that hangs holds up all the others in the next collective, so every rank's watchdog runs out, and each
writes its own RUN/stacks/rank-NNNNN.txt: the hung one is the one that is doing something else than waiting.
"""

from __future__ import annotations

import contextlib
import faulthandler
import multiprocessing
import os
import sys
import threading
import time
from pathlib import Path
from typing import IO

from mytalk import atomic
from mytalk.command import EXIT_NOT_DONE, EXIT_RUN_AGAIN, leave_error, note
from train.run_folder import checkpoint

BACKSTOP_S = 30.0  # past the limit, if even this thread cannot run (a call that holds the interpreter): from C
OTHERS_S = 5.0  # at most, wait for the other ranks' files
FOLDER = "stacks"


class Watchdog:
    """`alive(doing)` says that there is progress, and what comes next. Without it for `limit_s`, the process ends.

    Exit code 75 ("run me again") if the run has a newer checkpoint than when it began, else 1, so that a run which
    hangs at the same place each time is not started again and again.
    """

    def __init__(self, program: str = "", run: Path = Path(), rank: int = 0, world_size: int = 1, limit_s: float = 0.0):
        self.program, self.folder, self.limit_s = program, run / FOLDER, limit_s
        self.rank, self.world_size = rank, world_size
        self.run = run
        self.before = checkpoint.newest(run) if limit_s else None
        self.doing, self.since, self.armed = "starting", time.monotonic(), 0.0
        self.over = threading.Event()
        self.last_words: IO[str] | None = None

    def alive(self, doing: str) -> None:
        """Something was finished; `doing` says what begins now."""
        self.doing, self.since = doing, time.monotonic()

    def still(self) -> None:
        """Restart the clock: the work still makes progress. Any thread may call it."""
        self.since = time.monotonic()

    def __enter__(self) -> Watchdog:
        if self.limit_s:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._file().unlink(missing_ok=True)
            self.last_words = open(self._file().with_suffix(".hung"), "w")
            self._arm()
            threading.Thread(target=self._watch, daemon=True, name="watchdog").start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        if self.last_words:
            faulthandler.cancel_dump_traceback_later()
            self.last_words.close()
            Path(self.last_words.name).unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # others' files are in it
                self.folder.rmdir()
            self.last_words = None

    def _file(self, rank: int | None = None) -> Path:
        return self.folder / f"rank-{self.rank if rank is None else rank:05d}.txt"

    def _arm(self) -> None:
        assert self.last_words is not None
        self.armed = time.monotonic()
        # Set anew by `_watch` within a tenth of the limit: it never comes before our own thread.
        faulthandler.dump_traceback_later(1.1 * self.limit_s + BACKSTOP_S, exit=True, file=self.last_words)

    def _watch(self) -> None:
        while not self.over.wait(min(self.limit_s / 20, 1.0)):
            if time.monotonic() - self.since > self.limit_s:
                self._end(self.doing)
            if self.last_words and self.since - self.armed > self.limit_s / 10:
                self._arm()

    def _end(self, doing: str) -> None:
        """Write the stacks, say where every rank stands, and end the process with its children."""
        try:
            with atomic.file(self._file(), "w") as file:
                file.write(f"rank {self.rank}, process {os.getpid()}: {doing}\n")
                file.flush()
                faulthandler.dump_traceback(file, all_threads=True)
        except OSError as error:
            print(f"{self.program}: the stacks could not be written ({error})", file=sys.stderr)
            faulthandler.dump_traceback(all_threads=True)
        others = [self._file(rank) for rank in range(self.world_size)]
        until = time.monotonic() + OTHERS_S
        while not all(path.is_file() for path in others) and time.monotonic() < until:
            time.sleep(0.1)
        stands = [path.read_text().partition("\n")[0] for path in others if path.is_file()]
        got_on = checkpoint.newest(self.run) != self.before
        code = EXIT_RUN_AGAIN if got_on else EXIT_NOT_DONE
        then = "the same command continues" if got_on else "it had written no checkpoint since it began"
        message = f"no progress for {self.limit_s:g} s ({'; '.join(stands)}); the stacks are in {self.folder}; {then}"
        leave_error("machine", message, code)
        if self.rank == 0:
            note(self.run, "end", code=code, kind="hung", reason=message)
        print(f"{self.program}: error: {message}", file=sys.stderr, flush=True)
        if self.last_words:
            Path(self.last_words.name).unlink(missing_ok=True)
        for child in multiprocessing.active_children():
            child.kill()
        os._exit(code)
