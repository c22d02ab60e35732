"""The board of tasks: a folder through which processes and machines share out numbered tasks, without a server.

    FOLDER/leases/000012.1   task 12 is being done for the first time, by the worker whose token it holds
    FOLDER/leases/at-TOKEN.1 a worker that makes tasks
    FOLDER/workers/TOKEN     a worker that lives (owner.py)
    FOLDER/aside/000012.json why task 12 is not tried again
    FOLDER/closed.json       what the worker said that found all tasks done, and of what work

Who has a task holds its lease (leases.py), whose attempts count the deaths; that of who makes tasks says what is being
made, of what and how. Two workers may do one task at once, where one was thought dead and was not: whatever a task
writes must be the same bytes each time, committed by a rename. Leases save work, they do not make it correct.
"""

from __future__ import annotations

import contextlib
import json
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from data_pipeline.tasks.leases import LEASE_S, Leases, waits_s
from mytalk import atomic
from mytalk.command import EXIT_RUN_AGAIN, UserError

ATTEMPTS = 2  # of a task, before it is set aside
LOOK_EVERY_S = 5.0  # at what others have done
MOST_SHARE = 100  # times as long as a look takes, to the next one
DIED = "its workers died"
CLOSED = "closed.json"
PLAN = "plan"  # lease of who lists the tasks, or closes them
ARRIVED = "at-"  # lease of a worker that makes tasks


class Board(Leases):
    """One worker's view, a context as its leases are.

    `done(n)`: whether a task is finished, which must be cheap; `all_done()`: the numbers of all that are.
    """

    def __init__(self, folder: Path, done: Callable[[int], bool], all_done: Callable[[], set[int]], lease_s=LEASE_S):
        self.done, self.all_done = done, all_done
        self._finished: set[int] = set()
        self._aside: set[int] = set()  # as last looked
        super().__init__(folder, lease_s)

    def _tidy(self) -> None:
        (self.folder / CLOSED).unlink(missing_ok=True)
        atomic.sweep(self.folder)
        atomic.sweep(self.folder / "aside")
        super()._tidy()
        with contextlib.suppress(OSError):
            (self.folder / "aside").rmdir()

    def _says_nothing(self, task: str) -> bool:
        """Attempts at tasks that are left are kept."""
        return not task.isdecimal() or int(task) in self._finished

    def _pause_s(self, at_once: bool) -> float:
        """Not more often than needed: a list of 100 000 names takes a while."""
        return super()._pause_s(at_once) if at_once else max(LOOK_EVERY_S, MOST_SHARE * self._look_s)

    def _read(self) -> None:
        self._finished |= self.all_done()  # first: a lease that is given back after it is of a finished task
        self._aside = {int(path.stem) for path in (self.folder / "aside").glob("*.json")}
        super()._read()

    # Tasks

    def claims(self, numbers: Sequence[int]) -> Iterator[int]:
        """Take one task after the other that is neither finished, nor aside, nor another's; ends where none is left."""
        first = int(self.owner.token, 16) % max(len(numbers), 1) if self.others() else 0
        for number in [*numbers[first:], *numbers[:first]]:
            self._look()
            if not (number in self._finished or number in self._aside) and self._try(number):
                yield number

    def _try(self, number: int) -> bool:
        """Take a task's lease, if it is still to be done; sets it aside where its workers died in all ATTEMPTS."""
        name = _name(number)
        if not self.claim(name):
            return False
        if self.done(number):  # since the last look
            self.release(number)
        elif self.reason(number):
            self._give_back(name, all_attempts=True)
        elif self.held[name] > ATTEMPTS:
            self.set_aside(number, f"{DIED} in {ATTEMPTS} attempts")
        return name in self.held

    def release(self, number: int) -> None:
        """A task is finished: its lease and those of workers that died over it are removed."""
        self._finished.add(number)
        self._give_back(_name(number), all_attempts=True)

    def set_aside(self, number: int, reason: str) -> None:
        """A task that this worker has is not tried again, by anyone."""
        atomic.write_json(self.folder / "aside" / f"{_name(number)}.json", {"task": number, "reason": reason})
        self._give_back(_name(number), all_attempts=True)

    def reason(self, number: int) -> str:
        """Why a task is set aside; empty where it is not."""
        try:
            return str(json.loads((self.folder / "aside" / f"{_name(number)}.json").read_text())["reason"])
        except (FileNotFoundError, NotADirectoryError):
            return ""

    def left(self, numbers: Iterable[int]) -> list[int]:
        """Tasks that are neither finished nor aside."""
        self._look(at_once=True)
        return [number for number in numbers if number not in self._finished and not self.reason(number)]

    def finished(self) -> set[int]:
        """Tasks that are finished, as last looked."""
        self._look()
        return self._finished

    def begin(self, numbers: Iterable[int], kind: str = "", clean: Callable[[], None] = lambda: None) -> list[int]:
        """From now on this worker makes tasks, of a `kind`; returns those that are left. To be called alone.

        Where nobody else makes any, `clean` is called first, and where all that are left were set aside, they are tried
        again. Raises UserError where others make another kind.
        """
        idle = self.idle()
        if idle:
            clean()
        elif self._kinds_of_others() - {kind}:
            raise UserError(f"others are at work in {self.folder} with other options or shards; wait for them")
        self.claim(f"{ARRIVED}{self.owner.token}", kind)
        left = [number for number in numbers if not self.done(number)]
        self._finished.difference_update(left)
        if left:
            (self.folder / CLOSED).unlink(missing_ok=True)
        if idle and all(map(self.reason, left)):
            self._aside.difference_update(left)
            for number in left:
                (self.folder / "aside" / f"{_name(number)}.json").unlink(missing_ok=True)
        return left

    def idle(self) -> bool:
        """Whether no other living worker has begun. Those that wait for a turn to look at the board have not."""
        return not self._living(lambda task: task.isdecimal() or task.startswith(ARRIVED))

    def at_task(self) -> bool:
        """Whether another living worker has a task."""
        return bool(self._living(str.isdecimal))

    def _kinds_of_others(self) -> set[str]:
        kinds = set()
        for task, attempt in self._living(lambda task: task.startswith(ARRIVED)).items():
            with contextlib.suppress(FileNotFoundError):
                kinds.add(self._lease(task, attempt)[1])
        return kinds

    def close(self, of: str, said: Any) -> Any:
        """Leave word for the others that all is done, of the work `of` this digest; returns it. Alone."""
        atomic.write_json(self.folder / CLOSED, {"of": of, "said": said})
        return said

    def closed(self, of: str) -> Any:
        """The word of the worker that closed the work `of` this digest; None: nobody has."""
        try:
            word = json.loads((self.folder / CLOSED).read_text())
        except FileNotFoundError:
            return None
        return word["said"] if word["of"] == of else None


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
