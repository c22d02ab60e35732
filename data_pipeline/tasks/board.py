"""The board of tasks: a folder through which processes and machines share out numbered tasks, without a server.

    FOLDER/leases/000012.1   task 12 is being done for the first time, by the worker whose token it holds
    FOLDER/leases/at-TOKEN.1 a worker that makes tasks
    FOLDER/workers/TOKEN     a worker that lives (owner.py)
    FOLDER/aside/000012.json why task 12 is not tried again
    FOLDER/closed.json       what the worker said that found all tasks done
    FOLDER/kind              what is being made, of what and how

A lease is created with O_EXCL, so one worker has it; where that worker dies, another one creates the lease of the next
attempt. Two workers may do one task at once, where one was thought dead and was not: whatever a task writes must be the
same bytes each time, committed by a rename. Leases save work, they do not make it correct. Needs a file system on which
O_EXCL holds (POSIX, NFS from version 3 on, Lustre, GPFS).
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from data_pipeline.tasks.owner import Owner, Watcher
from mytalk import atomic
from mytalk.command import EXIT_RUN_AGAIN, UserError

LEASE_S = 60.0
ATTEMPTS = 2  # of a task, before it is set aside
LOOK_EVERY_S = 5.0  # at what others have done
MOST_SHARE = 100  # times as long as a look takes, to the next one
LEAST_WAIT_S, MOST_WAIT_S = 0.05, 2.0
DIED = "its workers died"
KIND = "kind"
ARRIVED = "at-"  # lease of a worker that makes tasks


class Board:
    """One worker's view. A context: on the way out all of its leases are given back.

    `done(n)`: whether a task is finished, which must be cheap; `all_done()`: the numbers of all that are.
    """

    def __init__(self, folder: Path, done: Callable[[int], bool], all_done: Callable[[], set[int]], lease_s=LEASE_S):
        self.folder, self.done, self.all_done = folder, done, all_done
        self.owner = Owner(folder / "workers", lease_s)
        self.watcher = Watcher(folder / "workers", lease_s)
        self.leases = folder / "leases"
        self.leases.mkdir(parents=True, exist_ok=True)
        self.held: dict[str, int] = {}  # task -> attempt
        self._attempts: dict[str, int] = {}  # the last attempt of each task on the board, as last looked
        self._finished: set[int] = set()
        self._looked_s, self._look_s = -1e9, 0.0  # when, and how long it took

    def __enter__(self) -> Board:
        return self

    def __exit__(self, *_: Any) -> None:
        for task in list(self.held):
            self._give_back(task)
        self.owner.end()
        if not self.watcher.living():
            self._tidy()

    def _tidy(self) -> None:
        """The last one out removes what says nothing any more; attempts at tasks that are left are kept."""
        for name in ("closed.json", KIND):
            (self.folder / name).unlink(missing_ok=True)
        self.watcher.clear()
        atomic.sweep(self.folder)
        atomic.sweep(self.folder / "aside")
        self._look(at_once=True)
        for task in list(self._attempts):
            if not task.isdecimal() or self.done(int(task)):
                self._give_back(task, all_attempts=True)
        for folder in (self.leases, self.folder / "workers", self.folder / "aside", self.folder):
            with contextlib.suppress(OSError):  # something is left in it
                folder.rmdir()

    # Tasks

    def claims(self, numbers: Sequence[int]) -> Iterator[int]:
        """Take one task after the other that is neither finished, nor aside, nor another's; ends where none is left."""
        first = int(self.owner.token, 16) % max(len(numbers), 1) if self.others() else 0
        for number in [*numbers[first:], *numbers[:first]]:
            self._look()
            if number not in self._finished and not self.reason(number) and self._claim(_name(number), ATTEMPTS):
                if not self.done(number):  # it may have been finished since the last look
                    yield number
                else:
                    self.release(number)

    def release(self, number: int) -> None:
        """A task is finished: its lease and those of workers that died over it are removed."""
        self._finished.add(number)
        self._give_back(_name(number), all_attempts=True)

    def to_do_again(self, number: int) -> None:
        """What a finished task made is lost: it is to be done again."""
        self._finished.discard(number)

    def set_aside(self, number: int, reason: str) -> None:
        """A task is not tried again, by anyone."""
        atomic.write_json(self.folder / "aside" / f"{_name(number)}.json", {"task": number, "reason": reason})
        self._give_back(_name(number), all_attempts=True)

    def reason(self, number: int) -> str:
        """Why a task is set aside; "": it is not."""
        try:
            return str(json.loads((self.folder / "aside" / f"{_name(number)}.json").read_text())["reason"])
        except (FileNotFoundError, NotADirectoryError):
            return ""

    def try_again(self, numbers: Iterable[int]) -> None:
        """Forget why tasks were set aside."""
        for number in numbers:
            (self.folder / "aside" / f"{_name(number)}.json").unlink(missing_ok=True)

    def left(self, numbers: Iterable[int]) -> list[int]:
        """Tasks that are neither finished nor aside."""
        self._look(at_once=True)
        return [number for number in numbers if number not in self._finished and not self.reason(number)]

    def finished(self) -> set[int]:
        """Tasks that are finished, as last looked."""
        self._look()
        return self._finished

    def arrive(self) -> None:
        """From now on this worker makes tasks: until it leaves, the board is idle for nobody. To be called alone."""
        self._claim(f"{ARRIVED}{self.owner.token}", None)

    def idle(self) -> bool:
        """Whether no other living worker has arrived. Those that wait for a turn to look at the board have not."""
        self._look(at_once=True)
        others = [item for item in self._attempts.items() if item[0] not in self.held]
        return all(self._abandoned(task, n) for task, n in others if task.isdecimal() or task.startswith(ARRIVED))

    # Workers

    def others(self) -> dict[str, dict[str, Any]]:
        """What the other living workers say."""
        return {token: said for token, said in self.watcher.living().items() if token != self.owner.token}

    def refuse_other_work(self, kind: str) -> None:
        """Say what this worker makes; UserError where others that have arrived make something else; alone."""
        path = self.folder / KIND
        if not self.idle() and path.exists() and path.read_text() != kind:
            raise UserError(f"others are at work in {self.folder} with other options or shards; wait for them")
        atomic.write_bytes(path, kind.encode())

    @contextlib.contextmanager
    def alone(self, name: str) -> Iterator[None]:
        """Do what one worker at a time may do; waits for another one that is at it, not for one that dies."""
        for wait_s in waits_s():
            if self._claim(name, None):
                break
            time.sleep(wait_s)
            self._look(at_once=True)
        try:
            yield
        finally:
            self._give_back(name, all_attempts=True)

    def close(self, said: dict[str, Any]) -> None:
        """Leave word for the others that all is done."""
        atomic.write_json(self.folder / "closed.json", said)

    def closed(self) -> dict[str, Any] | None:
        """The word of the worker that closed; None: nobody has."""
        try:
            return dict(json.loads((self.folder / "closed.json").read_text()))
        except FileNotFoundError:
            return None

    def open_again(self) -> None:
        """There is work again."""
        (self.folder / "closed.json").unlink(missing_ok=True)

    # Leases

    def _look(self, at_once: bool = False) -> None:
        """Read the board, not more often than needed: a list of 100 000 names takes a while."""
        began = time.monotonic()
        pause_s = self._look_s if at_once else max(LOOK_EVERY_S, MOST_SHARE * self._look_s)
        if began - self._looked_s < pause_s:
            return
        self._finished |= self.all_done()
        self._attempts = {}
        with contextlib.suppress(FileNotFoundError):
            for name in os.listdir(self.leases):
                task, _, attempt = name.rpartition(".")
                self._attempts[task] = max(self._attempts.get(task, 0), int(attempt))
        self._looked_s = time.monotonic()
        self._look_s = self._looked_s - began

    def _claim(self, task: str, most: int | None) -> bool:
        """Take a task's lease; sets a task aside whose workers died in `most` attempts."""
        attempt = self._attempts.get(task, 0)
        if task in self.held or (attempt and not self._abandoned(task, attempt)):
            return False
        if most is not None and attempt >= most:
            self.set_aside(int(task), f"{DIED} in {attempt} attempts")
            return False
        try:
            descriptor = os.open(self._path(task, attempt + 1), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            self._attempts[task] = attempt + 1
            return False
        with os.fdopen(descriptor, "w") as handle:
            handle.write(self.owner.token)
        self._attempts[task] = self.held[task] = attempt + 1
        return True

    def _abandoned(self, task: str, attempt: int) -> bool:
        """Whether the worker of a lease is dead."""
        try:
            token = self._path(task, attempt).read_text()
        except FileNotFoundError:
            self._attempts.pop(task, None)  # given back: another look will tell
            return False
        return self.watcher.dead(self.watcher.folder / token if token else self._path(task, attempt))

    def _give_back(self, task: str, all_attempts: bool = False) -> None:
        """Remove a lease; with `all_attempts` those before it as well, so that they count no more."""
        last = self.held.pop(task, self._attempts.get(task, 0))
        for attempt in range(last, 0 if all_attempts else last - 1, -1):
            self._path(task, attempt).unlink(missing_ok=True)
        self._attempts.pop(task, None)

    def _path(self, task: str, attempt: int) -> Path:
        return self.leases / f"{task}.{attempt}"


@contextlib.contextmanager
def leaving_on_term() -> Iterator[None]:
    """SIGTERM and USR1, as schedulers send them, end the process by SystemExit, so that leases are given back.

    After USR1, Slurm's warning before the time is up, with the exit code that says "the same command again".
    """
    codes = {signal.SIGTERM: 128 + signal.SIGTERM, signal.SIGUSR1: EXIT_RUN_AGAIN}

    def leave(number: int, *_: Any) -> None:
        raise SystemExit(codes[signal.Signals(number)])

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, leave) for number in codes}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _name(number: int) -> str:
    return f"{number:06d}"


def waits_s() -> Iterator[float]:
    """Growing pauses between looks at what others do, without end."""
    wait_s = LEAST_WAIT_S
    while True:
        yield wait_s
        wait_s = min(1.3 * wait_s, MOST_WAIT_S)


def work_through(board: Board, numbers: Sequence[int], do: Callable[[Iterator[int]], None]) -> list[int]:
    """Until no task is left: `do` those that can be claimed, then wait for the others' or for their death.

    Returns the numbers of tasks that are set aside.
    """
    for wait_s in waits_s():
        do(board.claims(numbers))
        if not board.left(numbers):
            break
        time.sleep(wait_s)
    return [number for number in numbers if board.reason(number)]
